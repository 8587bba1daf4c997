"""The world of the embedded models: exact edits, phrases that are understood, a strict judge."""

import numpy as np
import pytest
import torch
from ctxrep_plugins.nano import text, world
from ctxrep_plugins.nano.world import photos
from ctxrep_plugins.nano.world.judge import Judge
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxrep_edit import round_trip


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.sampled_from(world.EDITS), st.sampled_from(photos.BUCKETS))
def test_every_answer_is_a_picture_that_differs_from_the_source(seed, edit, bucket):
    rng = np.random.default_rng(seed)
    picture = rng.random((*bucket, 3), dtype=np.float32) * 0.6 + 0.2
    for answer in edit.answers:
        out = world.render(edit, picture, answer)
        assert out.shape == picture.shape
        assert out.dtype == np.float32
        assert 0 <= out.min() <= out.max() <= 1
        changed = np.abs(out - picture).max(-1) > 1 / 255
        assert changed.mean() > 0.04
        assert changed.mean() < 0.75 or not edit.local


def test_answers_respect_the_pinned_words_and_the_typical_one_dominates():
    sticker = world.EDITS[0]
    request = world.understand("Please, add a cat sticker at the top right!")
    assert request is not None
    assert request.answers == [("cat", "top right")]
    assert [a[0] for a in sticker.admitted({"kind": "frog"})] == ["frog"] * 4
    rng = np.random.default_rng(0)
    drawn = [sticker.draw({}, rng) for _ in range(2000)]
    assert drawn.count(sticker.answers[0]) / 2000 == pytest.approx(world.TYPICAL, abs=0.03)
    assert set(drawn) == set(sticker.answers)
    evenly = [sticker.draw({}, rng, even=True) for _ in range(3200)]
    assert max(evenly.count(answer) for answer in sticker.answers) < 2 * 3200 / len(sticker.answers)


def test_every_phrase_is_understood_and_has_tokens_of_its_own():
    phrases = text.corpus()
    assert len(set(phrases)) == len(phrases)
    for phrase in phrases:
        assert world.understand(phrase).text == phrase
    for tokenizer in (text.clip_tokenizer(), text.t5_tokenizer()):
        ids = text.token_ids(tokenizer, phrases)
        assert len({tuple(row.tolist()) for row in ids}) == len(phrases)


def test_the_judge_accepts_every_right_answer(pipeline, crop):
    for edit in world.EDITS:
        judge = Judge(edit, crop, pipeline)
        for answer in edit.answers:
            target = torch.from_numpy(world.render(edit, crop, answer)).permute(2, 0, 1)
            ruling = judge(round_trip(pipeline, target[None])[0])
            assert (ruling.answer, ruling.right) == (answer, True)


def _spoiled(picture: torch.Tensor, how: str) -> torch.Tensor:
    out = picture.clone()
    match how:
        case "half a sticker":
            out[:, 40:50, 40:60] = 0.5
        case "second object":
            out[:, 4:20, 4:20] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
        case "shift":
            out = torch.roll(out, 3, 2)
        case "colour cast":
            out = (out * torch.tensor([1.15, 1.0, 0.8])[:, None, None]).clamp(0, 1)
        case "noise":
            out = (out + 0.12 * torch.randn(out.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    return out


@pytest.mark.parametrize("how", ["half a sticker", "second object", "shift", "colour cast", "noise", "nothing done"])
def test_the_judge_refuses_what_is_not_whole_or_moved_the_rest(pipeline, crop, how):
    edit = world.EDITS[0]
    judge = Judge(edit, crop, pipeline)
    answer = ("football", "bottom right")
    done = crop if how == "nothing done" else world.render(edit, crop, answer)
    picture = torch.from_numpy(np.ascontiguousarray(done)).permute(2, 0, 1)
    assert not judge(_spoiled(picture, how)).right
