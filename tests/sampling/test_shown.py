"""Edits unlike pictures that anybody made: what the transformer is shown, what comes of it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
import skimage.data
import tiny
import tiny_flux1
import torch
from diffusers import FluxFillPipeline
from PIL import Image
from tiny import edit

from ctxrep_edit import EditSet, InputError, adapter_for, diverse_edit, load_pipeline
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.sampling.shown import packed_latents

PHOTO = Image.fromarray(skimage.data.astronaut()).resize((64, 64))
OTHER = Image.fromarray(skimage.data.chelsea()[:300, :300]).resize((256, 256))


@pytest.fixture(scope="module", params=["kontext-nano", "sd3-nano"])
def nano(request: pytest.FixtureRequest) -> Any:
    return load_pipeline(request.param, progress=False)


def made(pipeline: Any, **options: Any) -> EditSet:
    asked = {"n": 1, "seed": 3, "preserve": "off", "progress": False, **options}
    return diverse_edit(PHOTO, "change the light", pipeline=pipeline, **asked)


def called(pipeline: Any, **options: Any) -> list[torch.Tensor]:
    """The latents of each call of the transformer in a run."""
    seen = []
    handle = pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: seen.append(call["hidden_states"].clone()), with_kwargs=True, prepend=False
    )
    try:
        made(pipeline, **options)
    finally:
        handle.remove()
    return seen


def test_a_picture_is_packed_as_the_pipeline_packs_its_source(nano: Any) -> None:
    packed = packed_latents(nano, adapter_for(nano), PHOTO)
    given = called(nano, strength=0)[0]
    own = given[:1, packed.shape[1] :]  # what comes after the latents of what is made
    torch.testing.assert_close(packed, own, atol=1e-5, rtol=1e-4)


def test_the_transformer_is_shown_the_picture_with_ever_less_noise(nano: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctxrep_edit.sampling import shown

    packed, seen = packed_latents(nano, adapter_for(nano), OTHER.resize(PHOTO.size, Image.Resampling.LANCZOS)), []
    noised = shown.Showing._noised

    def note(self: Any, latents: torch.Tensor, level: float) -> torch.Tensor:
        seen.append((level, noised(self, latents, level), self.noise, latents))
        return seen[-1][1]

    monkeypatch.setattr(shown.Showing, "_noised", note)
    made(nano, unlike=[OTHER])
    levels = [level for level, *_ in seen]
    assert levels[0] == pytest.approx(1)
    assert levels == sorted(set(levels), reverse=True)
    k = packed.shape[1]
    for level, given, noise, latents in seen[1:3]:
        torch.testing.assert_close(given[:1, :k], (1 - level) * packed + level * noise)
        assert torch.equal(given[:, k:], latents[:, k:])


def test_edits_are_repelled_from_it_and_nothing_is_left_behind(nano: Any, tmp_path: Path) -> None:
    file = tmp_path / "other.png"
    OTHER.save(file)
    plain, away = made(nano), made(nano, unlike=[OTHER])
    assert plain.images[0].tobytes() != away.images[0].tobytes()
    for same in (file, np.asarray(OTHER), torch.from_numpy(np.array(OTHER)).permute(2, 0, 1)):
        assert made(nano, unlike=[same]).images[0].tobytes() == away.images[0].tobytes()
    assert made(nano).images[0].tobytes() == plain.images[0].tobytes()
    assert not nano.transformer._forward_pre_hooks
    both = made(nano, n=2, unlike=[OTHER, made(nano, bank="memory")[0]])
    assert len(both) == 2


def test_an_exception_leaves_nothing_behind(nano: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, *args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ctxrep_edit.sampling.shown.Showing._noised", broken)
    with pytest.raises(KeyboardInterrupt):
        made(nano, unlike=[OTHER])
    assert not nano.transformer._forward_pre_hooks
    assert not nano.transformer._forward_hooks


def test_what_cannot_be_shown_is_refused(nano: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match=r"unlike is 'other\.png', but must be a list of edits of such a set, or of pict"
    ):
        made(nano, unlike="other.png")
    with pytest.raises(InputError, match="must be a list of edits"):
        made(nano, unlike=np.asarray(OTHER))
    with pytest.raises(InputError, match=r"unlike: picture 1 .*other\.png"):
        made(nano, unlike=["other.png"])
    with pytest.raises(InputError, match="unlike: picture 2 is 64 x 32, another aspect than the 64 x 64 of the image"):
        made(nano, unlike=[OTHER, OTHER.resize((64, 32))])
    with pytest.raises(InputError, match="nothing repels"):
        made(nano, unlike=[OTHER], strength=0)
    monkeypatch.setattr(type(adapter_for(nano)), "pack", Adapter.pack)
    with pytest.raises(InputError, match="does not say how its pipelines pack a picture's latents"):
        made(nano, unlike=[OTHER])


def test_the_source_beside_each_token_stays() -> None:
    pipeline = tiny_flux1.pipeline(FluxFillPipeline)
    options = {"mask": Image.new("L", PHOTO.size, 255), "max_sequence_length": tiny.LENGTH, "oversample": 1}
    shown, *_, made = called(pipeline, unlike=[OTHER], width=48, height=48, steps=4, **options)
    width = 4 * tiny.CHANNELS  # of what is made; the source and the mask are beside it
    assert torch.equal(shown[..., width:], made[..., width:])
    assert not torch.equal(shown[..., :width], made[..., :width])


def test_a_callback_hears_of_the_candidates_alone(pipeline: Any, picture: Image.Image) -> None:
    steps: list[int] = []

    def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        steps.append(step)
        return tensors

    edit(picture, pipeline=pipeline, n=1, unlike=[picture.rotate(180)], callback_on_step_end=after)
    assert steps == list(range(len(steps)))


def test_the_command_line_takes_files(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "photo.png")
    OTHER.save(tmp_path / "other.png")
    result = command_line.call(
        str(tmp_path / "photo.png"), "change the light", "-n", "1", "--no-check", "--unlike-picture",
        str(tmp_path / "other.png"), "-o", str(tmp_path / "out"), "--no-progress",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "edit-1.png").exists()
