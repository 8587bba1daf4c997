"""The noise that each particle starts from, and how many particles fit in memory."""

import types
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import edit, pixels

from ctxrep_edit import InputError, Repulsion
from ctxrep_edit.sampling import particles


def started_from(pipeline: Any, picture: Image.Image, **options: Any) -> torch.Tensor:
    """The noise of each edit: (n, tokens, channels)."""
    seen: list[torch.Tensor] = []
    handle = pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: seen.append(call["hidden_states"][:, : 6 * 4].clone()), with_kwargs=True
    )
    edit(picture, pipeline=pipeline, **options)
    handle.remove()
    return seen[0]


def test_the_same_seed_gives_the_same_pictures(pipeline: Any, picture: Image.Image) -> None:
    one, two = (edit(picture, pipeline=pipeline) for _ in range(2))
    assert np.array_equal(pixels(one), pixels(two))
    assert [entry.seed for entry in one] == [0, 1, 2]
    assert not np.array_equal(pixels(one), pixels(edit(picture, pipeline=pipeline, seed=7)))
    assert len({image.tobytes() for image in one.images}) == 3


def test_no_seed_draws_one(pipeline: Any, picture: Image.Image) -> None:
    state = torch.get_rng_state()
    one, two = (edit(picture, pipeline=pipeline, n=1, seed=None)[0].seed for _ in range(2))
    assert one != two
    assert torch.equal(torch.get_rng_state(), state)  # the caller's own randomness is not touched


def test_an_edit_starts_from_the_same_noise_in_a_set_of_any_size(pipeline: Any, picture: Image.Image) -> None:
    six = started_from(pipeline, picture, n=6)
    assert torch.equal(started_from(pipeline, picture, n=3), six[:3])
    assert torch.equal(started_from(pipeline, picture, n=1, seed=4), six[4:5])


def test_more_than_fits_is_said_before_the_run(
    pipeline: Any, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def available(gibibytes: float) -> None:
        memory = type("Memory", (), {"available": int(gibibytes * 2**30)})
        monkeypatch.setattr(particles.psutil, "virtual_memory", lambda: memory)

    monkeypatch.setattr(particles, "seeds", lambda *_: pytest.fail("as many numbers as were asked for were made"))
    with pytest.raises(InputError, match=r"n is 10000000000, but about (\d+) "):
        edit(picture, pipeline=pipeline, n=10**10)
    monkeypatch.undo()
    available(0.5)
    with pytest.raises(
        InputError, match=r"batch_size is 600, but about (\d+) .* 48 x 32 .* on cpu: ask for at most \1\."
    ):
        edit(picture, pipeline=pipeline, n=600, batch_size=600)
    edit(picture, pipeline=pipeline, n=2)
    available(0.0001)
    with pytest.raises(
        InputError, match=r"about 0 candidates .* free some, or make them smaller with width and height"
    ):
        edit(picture, pipeline=pipeline, n=2)


def test_what_torch_keeps_of_freed_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = types.SimpleNamespace(_execution_device=torch.device("cuda"), dtype=torch.bfloat16)
    gibibyte = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (gibibyte, 80 * gibibyte))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70 * gibibyte)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30 * gibibyte)
    particles.check_memory(pipeline, 6, (1024, 1024), 6)
    with pytest.raises(InputError, match=r"fit in the 41\.0 GiB free on cuda: ask for at most 34"):
        particles.check_memory(pipeline, 40, (1024, 1024), 40)


def test_one_alone_is_plain(pipeline: Any, picture: Image.Image) -> None:
    plain = edit(picture, pipeline=pipeline, n=1, strength=0)
    alone = edit(picture, pipeline=pipeline, n=1, repulsion=Repulsion(anchor=False, hold=0.3, churn=1.0))
    assert np.array_equal(pixels(alone), pixels(plain))
