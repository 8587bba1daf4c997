"""Contact sheets: what is where, in which size and colour."""

from __future__ import annotations

import pytest
from PIL import Image

from ctxrep_edit import InputError, contact_sheet
from ctxrep_edit.results.sheet import BAD, CELL, GAP, GOOD, HEADING, LINE, PAPER, Cell, Row
from ctxrep_edit.testing import edit_set

CAPTION = LINE + GAP  # pixels below each picture


def row(count: int, size: tuple[int, int] = (64, 64), heading: str = "x") -> Row:
    return Row(heading, [Cell(Image.new("RGB", size, "black"), "seed 1") for _ in range(count)])


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_a_sheet_shows_each_picture_with_its_verdict() -> None:
    cells = [Cell(Image.new("RGB", (64, 48), "grey"), "source")]
    for colour, kept in (("red", True), ("green", False), ("blue", None)):
        cells.append(Cell(Image.new("RGB", (64, 48), colour), "seed 7  LPIPS 0.012", kept))
    sheet = contact_sheet([Row("make it blue", cells)])
    high = CELL * 48 // 64
    assert sheet.size == (GAP + 4 * (CELL + GAP), GAP + HEADING + high + CAPTION)
    centres = [(GAP + CELL // 2 + i * (CELL + GAP), GAP + HEADING + high // 2) for i in range(4)]
    assert [sheet.getpixel(centre) for centre in centres] == [(128, 128, 128), (255, 0, 0), (0, 128, 0), (0, 0, 255)]
    captions = [sheet.crop((x - CELL // 2, GAP + HEADING + high, x + CELL // 2, sheet.height)) for x, _ in centres]
    colours = [{colour for _, colour in caption.getcolors(4096) or ()} for caption in captions]
    assert [rgb(GOOD) in found for found in colours] == [False, True, False, False]
    assert [rgb(BAD) in found for found in colours] == [False, False, True, False]


@pytest.mark.parametrize(("n", "columns", "lines"), [(1, 2, 1), (6, 7, 1), (7, 4, 2), (20, 7, 3), (100, 7, 15)])
def test_many_edits_go_onto_several_lines(n: int, columns: int, lines: int) -> None:
    sheet = contact_sheet([row(n + 1)])
    assert sheet.size == (GAP + columns * (CELL + GAP), GAP + HEADING + lines * (CELL + CAPTION))
    assert sheet.width <= 1440


@pytest.mark.parametrize("size", [(600, 400), (400, 600), (64, 64), (9, 16), (64, 48)])
def test_cells_have_the_shape_of_their_pictures(size: tuple[int, int]) -> None:
    """No paper shows left, right, above or below a picture but the gaps."""
    sheet = contact_sheet([row(2, size)])
    high = round(CELL * size[1] / size[0])
    box = (GAP, GAP + HEADING, GAP + CELL, GAP + HEADING + high)
    assert sheet.crop(box).getcolors() == [(CELL * high, (0, 0, 0))]
    assert sheet.height == GAP + HEADING + high + CAPTION


def test_rows_of_different_length_and_pictures_of_any_shape() -> None:
    wide, tall, large = (Image.new("RGB", size, "black") for size in ((90, 1), (2, 300), (1000, 1000)))
    sheet = contact_sheet([Row("one", [Cell(wide, "")]), Row("two", [Cell(tall, ""), Cell(large, "", True)])])
    assert sheet.width == GAP + 2 * (CELL + GAP)
    assert sheet.height == GAP + 2 * HEADING + 2 + 2 * CELL + 2 * CAPTION
    assert sheet.getpixel((sheet.width - GAP - CELL // 2, GAP + HEADING + 1)) == rgb(PAPER)


def test_words_stay_within_the_sheet() -> None:
    long = "put a lamp\nwith a green shade " * 30
    sheet = contact_sheet(
        [row(2, heading=long), Row("w" * 500, [Cell(Image.new("RGB", (64, 64)), "seed " + "9" * 60)])]
    )
    assert sheet.width == GAP + 2 * (CELL + GAP)
    assert sheet.height == GAP + (3 + 1) * HEADING + 2 * (CELL + CAPTION)
    edge = sheet.crop((sheet.width - GAP // 2, 0, sheet.width, sheet.height))
    assert edge.getcolors() == [(edge.width * edge.height, rgb(PAPER))]
    below = sheet.crop((GAP + CELL + 1, sheet.height - CAPTION, GAP + CELL + GAP, sheet.height))
    assert below.getcolors() == [(below.width * below.height, rgb(PAPER))]


def test_nothing_to_show() -> None:
    for rows in ([], [Row("x", [])]):
        with pytest.raises(InputError, match="There is nothing to show"):
            contact_sheet(rows)


def test_an_instruction_of_any_letters() -> None:
    sheet = edit_set().sheet()
    assert sheet.width == GAP + 4 * (CELL + GAP)
    assert contact_sheet([row(1, heading="[/b] :cat: \x1b[31m 雪\t\n")]).width == GAP + CELL + GAP


def test_transparency_is_shown_on_paper() -> None:
    clear = Image.new("RGBA", (CELL, CELL), (255, 0, 0, 0))
    assert contact_sheet([Row("", [Cell(clear, "")])]).getpixel((GAP + 9, GAP + 20)) == rgb(PAPER)
