"""What a set remembers of what it was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sampling.test_rounds import Objects
from tiny import edit, pixels

from ctxrep_edit import EditSet, InputError
from ctxrep_edit.results import bank_file


def test_edits_that_were_left_out_have_numbers_of_their_own(pipeline: Any, picture: Image.Image) -> None:
    drop = {"on_unfaithful": "drop", "pipeline": pipeline, "n": 4}
    one = edit(picture, preserve=[Objects([[1]])], **drop)
    other = edit(picture, preserve=[Objects([[0, 2]])], seed=9, **drop)
    both = one + other
    assert [entry.index for entry in both] == [0, 2, 3, 5, 7]
    assert [entry.index for entry in both.dropped] == [1, 4, 6]
    assert [entry.seed for entry in both] == [*(entry.seed for entry in one), *(entry.seed for entry in other)]


def test_a_set_of_a_pipeline_that_was_given_needs_it_again(pipeline: Any, picture: Image.Image, tmp_path: Path) -> None:
    for strength in (0.0, 1.0):
        made = edit(picture, pipeline=pipeline, strength=strength)
        made.save(tmp_path / str(strength), bank=True)
        loaded = EditSet.load(tmp_path / str(strength))
        with pytest.raises(InputError, match="The pipeline that made these edits is gone: give one of the same model"):
            loaded.more(1, progress=False)
        again = loaded.more(2, pipeline=pipeline, progress=False)
        assert (pixels(again) == pixels(made.more(2, progress=False))).all()
        loaded.save(tmp_path / f"{strength} again", bank=True)
        with pytest.raises(InputError, match="is gone"):
            EditSet.load(tmp_path / f"{strength} again").more(1, progress=False)


def test_numbers_from_numpy_can_be_saved(pipeline: Any, picture: Image.Image, tmp_path: Path) -> None:
    one = edit(picture, pipeline=pipeline)
    other = edit(
        picture, pipeline=pipeline, n=np.int64(3), seed=np.int64(0), steps=np.int64(4), retries=np.int64(2),
        true_cfg_scale=np.float32(0.5), window=np.float32(0.5), restore=np.bool_(False),
    )  # fmt: skip
    assert len(other) == len(one)
    assert other.recipe["pipeline_kwargs"] == {"true_cfg_scale": 0.5}
    other.save(tmp_path / "set", bank=True)
    assert EditSet.load(tmp_path / "set").recipe["retries"] == 2


def test_a_mask_is_read_once(pipeline: Any, picture: Image.Image, tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    Image.new("L", picture.size, 255).save(file)
    made = edit(picture, pipeline=pipeline, mask=file)
    file.unlink()
    assert len(made.more(1, progress=False)) == 1


def test_tokens_are_copied_only_where_two_share_them(
    pipeline: Any, picture: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be most of the memory."""
    written: dict[str, Any] = {}
    monkeypatch.setattr(bank_file, "save_file", lambda tensors, *others: written.update(tensors))
    made = edit(picture, pipeline=pipeline, n=2)
    (made + made).save(tmp_path / "set", bank=True)
    assert made[1].trace is not None
    for place, tokens in made[1].trace.memory.items():
        name = ".".join(map(str, place))
        assert written[f"1/{name}"].data_ptr() == tokens.data_ptr()
        assert written[f"3/{name}"].data_ptr() != tokens.data_ptr()


def test_places_from_numpy_name_edits(pipeline: Any, picture: Image.Image) -> None:
    edits = edit(picture, pipeline=pipeline, n=2)
    best = np.argmax([0.1, 0.9])
    assert pixels(edits.like(best, 1, progress=False)).shape == pixels(edits.like(1, 1, progress=False)).shape
    assert edits.between(np.int64(0), best, 2, progress=False)[1].seed == edits[1].seed
    for wrong in (np.int64(2), np.float64(1), np.True_):
        with pytest.raises(InputError, match="names no edit"):
            edits.like(wrong, 1)
