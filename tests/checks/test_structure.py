"""Where a picture lies on its source, moving it back, and the edges that it keeps."""

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from checks.known_changes import EDIT, INSIDE, ROUND_TRIP, SIDE, SOURCE, WRONG, case, judged, noisy, objections
from ctxrep_plugins.checks import whole
from ctxrep_plugins.checks.verdicts import Measure
from ctxrep_plugins.checks.whole import EDGES_LEAST
from PIL import Image

from ctxrep_edit import Case, assess, to_tensor
from ctxrep_edit.faithfulness.registration import Motion, find_motion, move, move_back


def edges(given: Case) -> list[Measure]:
    assert given.evidence.where == "whole"
    return [measured["edges"] for measured in whole.measures(given.evidence)]


@pytest.mark.parametrize("size", [(64, 64), (300, 420)])
@pytest.mark.parametrize(("dx", "dy", "zoom"), [(3.4, -2.2, 1.0), (-7.0, 1.5, 1.0), (0.0, 0.0, 1.06), (2.0, 1.0, 0.95)])
def test_a_motion_is_found_and_undone(size: tuple[int, int], dx: float, dy: float, zoom: float) -> None:
    picture = to_tensor(Image.fromarray(skimage.data.astronaut()).resize(size, Image.Resampling.BOX))[0]
    moved = move(picture, Motion(dx, dy, zoom))
    found = find_motion(picture, (0.8 * moved + 0.1).flip(0))  # other colours too
    assert (found.dx, found.dy, found.zoom) == pytest.approx((dx, dy, zoom), abs=0.3)
    back, seen = move_back(moved, found)
    assert 0.6 < seen.float().mean() < 1 or zoom < 1
    assert (back - picture).abs().mean(0)[seen].mean() < 0.03


def test_nothing_moves_what_lies_where_it_was() -> None:
    for edit in (SOURCE[0], EDIT[0], noisy(SOURCE, 0.05)[0], 1 - SOURCE[0], torch.zeros(3, 40, 40)):
        assert not find_motion(SOURCE[0] if edit.shape[1] == SIDE else edit, edit)


@pytest.mark.parametrize("stretch", [1.03, 1 / 1.03])
def test_a_stretch_of_one_side_is_told_from_a_zoom(stretch: float) -> None:
    picture = to_tensor(Image.fromarray(skimage.data.astronaut()).resize((300, 240)))[0]
    found = find_motion(picture, move(picture, Motion(0.0, 0.0, stretch**0.5, stretch=stretch)))
    assert found.stretch == pytest.approx(stretch, abs=0.005)
    assert str(found).endswith(f"stretched 1.03 times in {'height' if stretch > 1 else 'width'}")


def test_a_motion_in_words() -> None:
    assert str(Motion(-5.0, -6.0, 0.97, 12.0, size=(500, 500))) == (
        "shifted 1.0 % to the left and 1.2 % up, zoomed out by 3.0 %"
    )
    assert str(Motion(0.0, 4.0, size=(500, 500))) == "shifted 0.8 % down"
    assert str(Motion(0.1, 0.1, size=(500, 500))) == "hardly moved"


def test_what_a_mask_allows_to_move_moves_nothing() -> None:
    moved = torch.where(INSIDE, SOURCE.roll((3, -3), (2, 3)), SOURCE)[0]
    assert not find_motion(SOURCE[0], moved, INSIDE)
    assert not find_motion(SOURCE[0], moved, torch.ones_like(INSIDE))


def test_a_slight_motion_is_undone_for_measuring_and_no_fault() -> None:
    picture = to_tensor(Image.fromarray(skimage.data.astronaut()))  # 512 x 512
    given = Case(picture, move(picture[0], Motion(1.5, 0.0))[None], None, "", False, lambda: picture)
    (motion,) = given.evidence.motions
    assert motion
    assert not motion.moved
    assert motion.dx == pytest.approx(1.5, abs=0.1)


def test_realign_returns_the_picture_moved_back() -> None:
    moved = WRONG["shift"][0]
    given = case(moved, INSIDE, realign=True)
    (said,) = judged(given)
    assert not any(verdict.objects for verdict in said.values())
    assert said["alignment"].details["shift"] == pytest.approx([3, -2], abs=0.2)
    assert said["alignment"].reason.endswith("and was moved back")
    assert (given.evidence.edits - EDIT).abs().mean(1)[given.evidence.seen].mean() < 0.02


def test_restore_gives_the_source_back_outside_the_region() -> None:
    given = case(WRONG["cast"][0], INSIDE, restore=True)
    evidence = given.evidence
    assert torch.equal(evidence.edits[0][:, ~INSIDE], SOURCE[0][:, ~INSIDE])
    assert torch.equal(evidence.edits[0][:, 12:20, 12:20], WRONG["cast"][0][0][:, 12:20, 12:20])
    assert objections(given) == [set()]


def test_what_most_of_a_set_lose_of_the_edges_was_asked_for() -> None:
    blurred = F.avg_pool2d(ROUND_TRIP, 7, 1, 3, count_include_pad=False)
    alone = edges(case(torch.cat([blurred, 0.5 * ROUND_TRIP, 0.6 * ROUND_TRIP])))
    assert [verdict.kept for verdict in alone] == [False, True, True]
    together = edges(case(torch.cat([blurred, 0.9 * blurred, 0.8 * blurred])))
    assert all(verdict.kept and verdict.value < EDGES_LEAST for verdict in together)


def test_a_set_without_edges_is_not_failed_for_less_than_none() -> None:
    """Shares are never negative, and the bound is never above half of what the others keep."""
    turned = 1 - ROUND_TRIP
    verdicts = edges(case(torch.cat([turned, 0.9 * turned, 0.8 * turned + 0.1, 0.95 * turned])))
    assert [(verdict.kept, verdict.value, verdict.bound) for verdict in verdicts] == [(True, 0.0, 0.0)] * 4
    mixed = edges(case(torch.cat([turned, 0.5 * ROUND_TRIP, 0.6 * ROUND_TRIP])))
    assert [verdict.kept for verdict in mixed] == [False, True, True]
    assert mixed[0].value == 0


def test_a_hard_contrast_is_no_loss_of_edges_but_a_black_picture_is() -> None:
    noir = (3 * ROUND_TRIP - 1.2).clamp(0, 1)
    hard, black = edges(case(torch.cat([noir, noir * 0, *[ROUND_TRIP * 0.8] * 4])))[:2]
    assert hard.kept
    assert hard.value > EDGES_LEAST
    assert (black.kept, black.value) == (False, 0.0)


def test_a_picture_of_black_and_white_alone_keeps_its_edges() -> None:
    """What an edit made black or white hides edges; what was so before does not."""
    picture = Image.fromarray(skimage.data.camera()).convert("1").resize((64, 64))
    everywhere = Image.new("L", picture.size, 255)
    measures = assess(picture, [picture], everywhere)[0].verdicts["preservation"].details["measures"]
    assert measures["edges"] == {"value": pytest.approx(1), "bound": EDGES_LEAST, "kept": True}
