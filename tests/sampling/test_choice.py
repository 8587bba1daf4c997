"""Which candidates of a pool go on."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxrep_edit.sampling.choice import choose, left_out

NOTHING = torch.zeros(0, 1)


def line(*places: float) -> torch.Tensor:
    """Points on a line: (m, 1)."""
    return torch.tensor(places)[:, None]


def test_each_answer_has_one_that_stands_for_it() -> None:
    answers = line(0.0, 0.1, 5.0, 5.1, 5.2, 9.0, 9.3, 9.1)
    assert choose(answers, NOTHING, [0], 3) == [0, 3, 7]  # the middle one of each, and the one that stays


def test_what_is_there_already_is_not_taken_again() -> None:
    answers = line(0.0, 0.1, 5.0, 5.1, 9.0)
    assert choose(answers, line(5.05), [], 2) in ([0, 4], [1, 4])
    assert choose(answers, line(5.05, 9.0), [0], 1) == [0]


def test_where_nearly_all_agree_the_others_missed_the_words() -> None:
    alike = [0.01 * i for i in range(10)]
    assert max(choose(line(*alike, 7.0, -8.0), NOTHING, [0], 6)) < 10
    assert choose(line(*alike[:5], 7.0, -8.0), NOTHING, [0], 3) == [0, 5, 6]  # five of seven are not nearly all
    assert 10 in choose(line(*alike, 7.0), NOTHING, [10], 3)  # but one that is to stay stays


def test_a_few_that_agree_say_nothing_of_the_words() -> None:
    """Else two of a batch of four would be one answer, where the third of them is the typical one, too."""
    assert choose(line(0.0, 0.01, 0.02, 7.0), NOTHING, [0], 2) == [0, 3]


def test_what_is_there_already_agrees_or_not() -> None:
    answers = line(0.0, 0.01, 0.02, 7.0)
    assert 3 not in choose(answers, line(0.01, 0.02, 0.03, 0.04), [], 2)
    assert 3 in choose(answers, line(0.01, 9.0, -9.0, -4.0), [], 2)


def test_what_was_left_out_before_agrees_or_not() -> None:
    answers = line(0.0, 0.01, 0.02, 0.03, 7.0, -8.0)
    assert choose(answers, NOTHING, [0], 3) == [0, 4, 5]
    assert max(choose(answers, NOTHING, [0], 3, line(0.04, 0.05, 0.06))) < 4  # seven of nine
    assert choose(answers, NOTHING, [0], 3, line(0.04, 9.0, -9.0)) == [0, 4, 5]


def test_what_was_left_out_is_as_far_as_it_was_from_the_nearest_that_stays() -> None:
    before, now = line(0.0, 0.5, 5.0, 5.25), line(1.0, torch.nan, 7.0, torch.nan)
    assert left_out(before, [0, 2], now).flatten().tolist() == [1.5, 7.25]


def test_points_that_are_all_one_are_the_first_ones() -> None:
    assert choose(torch.zeros(4, 2), torch.zeros(0, 2), [0], 3) == [0, 1, 2]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(-9, 9, width=32), min_size=4, max_size=12), st.integers(1, 4), st.booleans())
def test_it_gives_as_many_as_are_asked_for(places: list[float], count: int, anchored: bool) -> None:
    chosen = choose(line(*places), NOTHING if anchored else line(3.0), [0] if anchored else [], count)
    assert len({*chosen}) == count
    assert chosen == sorted(chosen)
    assert not anchored or chosen[0] == 0
