"""More of a set, unlike what is there: at once, joined, and from a folder in another process."""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import command_line
import pytest
import tiny
import torch
from conftest import both
from PIL import Image
from safetensors.torch import save_file
from tiny import SOME, edit

from ctxrep_edit import EditSet, InputError, assess, diverse_edit, load_pipeline

SIX = replace(SOME, anchor=True)
BANK = "bank.safetensors"


def made(picture: Image.Image, pipeline: Any, **options: Any) -> EditSet:
    return edit(picture, pipeline=pipeline, **{"repulsion": SIX, **options})


def as_tensor(edits: EditSet) -> list[bytes]:
    return [image.tobytes() for image in edits.images]


def moved(edits: EditSet, picture: Image.Image, pipeline: Any, **options: Any) -> list[bool]:
    """Which of them are other than plain ones of their seeds."""
    alone = [edit(picture, pipeline=pipeline, n=1, seed=one.seed, strength=0, **options)[0] for one in edits]
    return [one.image.tobytes() != plain.image.tobytes() for one, plain in zip(edits, alone, strict=True)]


@both
def test_more_is_the_next_batch(pipeline: Any, picture: Image.Image) -> None:
    """So it is repelled from those before, in the very same way."""
    mask = Image.new("L", picture.size, 255) if "Inpaint" in type(pipeline).__name__ else None
    first = made(picture, pipeline, n=3, mask=mask)
    more = first.more(2, progress=False)
    assert [entry.seed for entry in more] == [3, 4]
    together = made(picture, pipeline, n=5, batch_size=3, mask=mask)
    assert as_tensor(first) + as_tensor(more) == as_tensor(together)
    assert moved(more, picture, pipeline, mask=mask) == [True, True]
    assert [entry.strength for entry in more] == [1.0, 1.0]  # no second anchor


def test_unlike_chooses_what_repels(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline)
    of_all, of_one = first.more(1, progress=False), first.more(1, unlike=[first[1]], progress=False)
    assert of_all[0].image.tobytes() != of_one[0].image.tobytes()
    asked = {"n": 1, "seed": 3, "unlike": first[1:2]}
    assert as_tensor(made(picture, pipeline, **asked)) == as_tensor(of_one)
    assert moved(first.more(1, unlike=[], progress=False), picture, pipeline) == [False]


def test_pools_know_of_the_earlier_ones(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline, n=2, oversample=2)
    more = first.more(2, progress=False)
    assert more.recipe["started"] == [4, 5, 6, 7]
    together = made(picture, pipeline, n=4, oversample=2, batch_size=2)
    assert len({entry.seed for entry in (*first, *more)}) == 4
    assert together.recipe["batches"] == [[0, 1], [2, 3]]


def test_sets_are_joined(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline)
    more = first.more(2, progress=False)
    both = first + more
    assert [entry.index for entry in both] == [0, 1, 2, 3, 4]
    assert [entry.file for entry in both] == [f"edit-{i}.png" for i in range(1, 6)]
    assert as_tensor(both) == as_tensor(first) + as_tensor(more)
    assert both.recipe["n"] == 5
    assert both.recipe["joined"] == [first.recipe, more.recipe]
    assert both.seconds == first.seconds + more.seconds
    further = both.more(1, progress=False)
    assert further[0].seed == 5
    assert (both + further).recipe["joined"] == [first.recipe, more.recipe, further.recipe]
    assert len(first[:1] + more[1:]) == 2
    other = made(picture.rotate(180), pipeline)
    with pytest.raises(InputError, match="not of one source, so they cannot be joined: join sets of one picture"):
        _ = first + other
    with pytest.raises(InputError, match=r"instructions 'change the light' and 'add a hat', so they cannot be joined"):
        _ = first + diverse_edit(picture, "add a hat", 2, pipeline=pipeline, preserve="off", progress=False)


def test_plain_edits_have_plain_ones_after_them(pipeline: Any, picture: Image.Image) -> None:
    plain = edit(picture, pipeline=pipeline, strength=0)
    more = plain.more(2, progress=False)
    assert moved(more, picture, pipeline) == [False, False]
    with pytest.raises(InputError, match="unlike: edit 1 has left no contextual tokens to be moved by: it is plain"):
        made(picture, pipeline, unlike=plain[:1])
    with pytest.raises(InputError, match="unlike names edits to be repelled from, but nothing repels"):
        edit(picture, pipeline=pipeline, strength=0, unlike=made(picture, pipeline)[:1])
    with pytest.raises(InputError, match="unlike is 3, but must be a list of edits of such a set"):
        made(picture, pipeline, unlike=3)


def test_a_remade_edit_is_the_one_to_be_unlike(pipeline: Any, picture: Image.Image) -> None:
    from sampling.test_rounds import Objects

    options = {"preserve": [Objects([[1]])], "on_unfaithful": "retry"}
    retried = made(picture, pipeline, **options)
    assert retried[1].seed == 4
    assert retried.asked is not None
    assert retried.asked.next_seed == 9  # three rounds of three
    memory = retried[1].trace.memory
    assert not any(torch.equal(a, b) for a, b in zip(memory.values(), retried[2].trace.memory.values(), strict=True))


# What is kept


def test_tokens_that_would_take_too_much_are_not_kept_unasked(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(picture, pipeline)
    size = sum(tokens.nbytes for tokens in first[0].trace.memory.values())
    from ctxrep_edit.repulsion import bank

    memory = type("Memory", (), {"available": 2**40})
    monkeypatch.setattr(bank, "psutil", SimpleNamespace(virtual_memory=lambda: memory))
    memory.available = size * 3 * 8 - 1  # an eighth of it does not hold three
    unkept = made(picture, pipeline)
    assert as_tensor(unkept) == as_tensor(first)
    assert [entry.trace for entry in unkept] == [None] * 3
    with pytest.raises(InputError, match=r"edit 1 has left no .* too large to be kept .* bank='memory' or 'disk'"):
        unkept.more(1, progress=False)
    assert made(picture, pipeline, bank="memory")[0].trace is not None
    assert made(picture, pipeline, batch_size=1)[0].trace is not None  # they are needed
    memory.available = size * 3 - 1
    said = (
        r"The contextual tokens of 3 candidates.* take \S+ GiB, .* of the memory are free: take bank='disk', a scope of"
    )
    for options in ({"batch_size": 1}, {"bank": "memory"}):
        with pytest.raises(InputError, match=said):
            made(picture, pipeline, **options)
    on_disk = made(picture, pipeline, bank="disk")
    assert as_tensor(on_disk.more(2, progress=False)) == as_tensor(first.more(2, progress=False, pipeline=pipeline))
    usage = type("Usage", (), {"free": size * 3 - 1})
    monkeypatch.setattr(bank.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"of the disk of .* are free: take a larger disk, by TMPDIR"):
        made(picture, pipeline, bank="disk")


def test_files_of_the_bank_have_no_names(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    edits = made(picture, pipeline, bank="disk", batch_size=1)
    assert [*tmp_path.iterdir()] == []
    assert as_tensor(edits) == as_tensor(made(picture, pipeline, batch_size=1))


def test_off_keeps_nothing(pipeline: Any, picture: Image.Image) -> None:
    edits = made(picture, pipeline, bank="off", batch_size=1)
    assert [entry.trace for entry in edits] == [None] * 3
    with pytest.raises(InputError, match="has left no contextual tokens"):
        edits.more(1, progress=False)


def test_a_set_keeps_no_pipeline_alive(folder: Path, picture: Image.Image) -> None:
    pipeline = load_pipeline(folder, progress=False)
    edits = made(picture, pipeline)
    del pipeline
    gc.collect()
    with pytest.raises(
        InputError, match=r"pipeline that made these edits is gone: give one .* more\(4, pipeline=\.\.\."
    ):
        edits.more(1, progress=False)
    again = load_pipeline(folder, progress=False)
    assert len(edits.more(1, pipeline=again, progress=False)) == 1


def test_what_is_pickled_forgets(pipeline: Any, picture: Image.Image) -> None:
    edits = pickle.loads(pickle.dumps(made(picture, pipeline)))
    assert [entry.trace for entry in edits] == [None] * 3
    with pytest.raises(InputError, match="This set cannot be continued, as what it was asked for is not known"):
        edits.more(1)
    with pytest.raises(InputError, match="This set cannot be continued"):
        assess(picture, [picture], checks=[]).more(1)


# What does not go together


def test_another_model_picture_or_setting_is_an_error(pipeline: Any, picture: Image.Image) -> None:
    first = made(picture, pipeline)
    for other, what in [
        ({"scope": "context"}, "scope"), ({"steps": 3}, "steps"), ({"width": 32}, "size"),
        ({"repulsion": replace(SIX, steps=1)}, "window"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=rf"unlike: edit 1 was made with another {what}, so that .* mean nothing"):
            made(picture, pipeline, unlike=first[:1], **other)
    with pytest.raises(InputError, match="made with another picture, so"):
        made(picture.rotate(180), pipeline, unlike=first[:1])
    with pytest.raises(InputError, match="made with another instruction, so"):
        made(picture, pipeline, unlike=first[:1], instruction="add a hat")
    weight = next(pipeline.transformer.parameters())
    weight.data += 0.01  # as a fused LoRA does
    with pytest.raises(InputError, match="made with another weights, so"):
        first.more(1, progress=False)
    weight.data -= 0.01


# In files


@pytest.fixture
def saved(folder: Path, picture: Image.Image, tmp_path: Path) -> Path:
    """A set of a model that can be loaded by its name."""
    edits = diverse_edit(picture, tiny.WORDS, 3, model=folder, seed=0, preserve="off", repulsion=SIX, progress=False)
    edits.save(tmp_path / "set", bank=True)
    edits.more(2, progress=False).save(tmp_path / "expected", ["png"])
    return tmp_path / "set"


def test_a_saved_set_goes_on_in_another_process(saved: Path) -> None:
    code = (
        "import sys; from ctxrep_edit import EditSet\n"
        "edits = EditSet.load(sys.argv[1]); more = edits.more(2, progress=False)\n"
        "more.save(sys.argv[2], ['png']); (edits + more).save(sys.argv[3], bank=True)"
    )
    subprocess.run([sys.executable, "-c", code, saved, saved / "more", saved / "both"], check=True)
    for file in ("edit-1.png", "edit-2.png"):
        made, expected = (Image.open(place / file) for place in (saved / "more", saved.parent / "expected"))
        assert made.tobytes() == expected.tobytes()
    assert EditSet.load(saved / "both").more(1, progress=False)[0].seed == 5


def test_a_bank_that_is_broken_or_foreign(saved: Path, tmp_path: Path) -> None:
    file, whole = saved / BANK, (saved / BANK).read_bytes()
    for content in (whole[:-100], whole[:20], b"", b"hello"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"bank\.safetensors cannot be read .*: take it away to load the set"):
            EditSet.load(saved)
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(InputError, match="is no bank of this version of ctxrep-edit: take it away"):
        EditSet.load(saved)
    file.write_bytes(whole)
    stated = json.loads((saved / "edits.json").read_text())
    stated["edits"][0]["seed"] = 9
    (saved / "edits.json").write_text(json.dumps(stated))
    with pytest.raises(InputError, match="is the bank of another set: take it away"):
        EditSet.load(saved)
    file.unlink()
    with pytest.raises(InputError, match="loaded from a folder without its bank"):
        EditSet.load(saved).more(1)


def test_an_earlier_bank_goes_with_its_set(saved: Path, pipeline: Any, picture: Image.Image) -> None:
    made(picture, pipeline).save(saved)
    assert not (saved / BANK).exists()
    (saved / BANK).write_bytes(b"somebody's")
    made(picture, pipeline).save(saved)
    assert (saved / BANK).read_bytes() == b"somebody's"


def test_what_cannot_be_saved(pipeline: Any, picture: Image.Image, tmp_path: Path) -> None:
    embeds = {"prompt_embeds": torch.randn(1, 16, 32), "pooled_prompt_embeds": torch.randn(1, 32)}
    for edits, why in [
        (made(picture, pipeline, **embeds), "prompt_embeds is a Tensor, which cannot be saved beside the pictures"),
        (made(picture, pipeline, bank="off"), "Edit 1 has left no contextual tokens to save"),
        (assess(picture, [picture], checks=[]), "This set has no bank to save"),
    ]:
        with pytest.raises(InputError, match=why):
            edits.save(tmp_path / "set", bank=True)
    assert not (tmp_path / "set").exists() or [*(tmp_path / "set").iterdir()] == []


def test_a_set_with_a_mask_and_transparency(folder: Path, picture: Image.Image, tmp_path: Path) -> None:
    mask = Image.new("L", picture.size, 255)
    mask.paste(0, (0, 0, 10, 10))
    clear = picture.convert("RGBA")
    clear.putalpha(mask)
    options = {"model": folder, "mask": mask, "restore": True, "seed": 0, "n": 2, "repulsion": SIX}
    edits = edit(clear, **options)
    edits.save(tmp_path, bank=True)
    more = EditSet.load(tmp_path).more(2, progress=False)
    assert as_tensor(more) == as_tensor(edits.more(2, progress=False))
    assert (more.images[0].mode, more.images[0].size) == ("RGBA", picture.size)


# On the command line


def test_the_command(saved: Path) -> None:
    result = command_line.call("more", saved, "-n", 2)
    assert result.exit_code == 0, result.output
    assert f"written into {saved / '2'}" in result.output
    both = EditSet.load(saved / "2")
    assert [entry.seed for entry in both] == [0, 1, 2, 3, 4]
    for i in (1, 2):
        with Image.open(saved.parent / "expected" / f"edit-{i}.png") as expected:
            assert both.images[2 + i].tobytes() == expected.tobytes()
    again = command_line.call("more", str(saved / "2"), "-n", "1", "--unlike", "2,5", "--json")
    assert json.loads(again.stdout)["edits"][5]["seed"] == 5
    for wrong in ("0", "9", "two", "1,,2"):
        result = command_line.call("more", str(saved), "--unlike", wrong)
        assert result.exit_code == 1
        assert f"--unlike is {wrong!r}, but must be numbers of its 3 edits" in result.output
    (saved / BANK).unlink()
    result = command_line.call("more", str(saved))
    assert "loaded from a folder without its bank" in result.output
