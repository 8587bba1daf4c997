"""Edit sets as tables and lines for a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ctxrep_edit.results.edit import Edit
    from ctxrep_edit.results.editset import EditSet


def terminal() -> Console:
    """Prints tables of anybody's text as it stands: [red] and :cat: are words."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)


def edits_table(sets: Mapping[str, EditSet]) -> Table:
    """One line per edit, the dropped ones too: number, seed, verdict, and what the check that decides has measured."""
    from rich.table import Table

    judged = any(edit.verdict for edits in sets.values() for edit in everyone(edits))
    origin = "file" if any(edit.name for edits in sets.values() for edit in everyone(edits)) else "seed"
    valued = any(edit.value is not None for edits in sets.values() for edit in everyone(edits))
    table = Table(title=shown(next(iter(sets.values())).instruction), title_justify="left")
    first = ("set",) * (len(sets) > 1) + ("edit", origin) + ("asked for",) * valued
    for heading in first + ("verdict",) + ("measured", "value", "bound") * judged:
        table.add_column(heading, overflow="fold", justify="right" if heading in ("value", "bound") else "left")
    for name, edits in sets.items():
        for edit in everyone(edits):
            cells = (
                str(edit.index + 1),
                shown(str(edit.name or ("-" if edit.seed is None else edit.seed))),
                *(shown(edit.value or "-"),) * valued,
                _verdict(edit, edits),
                *(_measured(edit) if judged else ()),
            )
            table.add_row(*(name,) * (len(sets) > 1), *cells)
        table.add_section()
    return table


def objections(sets: Mapping[str, EditSet]) -> Iterator[str]:
    """One line for each thing that a check objects to, with the edits of which it is said."""
    for name, edits in sets.items():
        said: dict[str, list[Edit]] = {}
        for edit in everyone(edits):
            if edit.verdict is not None and not edit.faithful:
                said.setdefault(edit.verdict.reason, []).append(edit)
        for reason, those in said.items():
            yield shown(f"{f'{name}, ' * (len(sets) > 1)}{numbered(those)}: {reason}")


def everyone(edits: EditSet) -> list[Edit]:
    """The edits of a set and those that were dropped, by number."""
    return sorted((*edits, *edits.dropped), key=lambda edit: edit.index)


def shown(text: str) -> str:
    """The text without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def numbered(edits: Sequence[Edit]) -> str:
    """Which they are, such as "edits 1, 3"."""
    return f"edit{'s' * (len(edits) > 1)} {', '.join(str(edit.index + 1) for edit in edits)}"


def wrapped(text: str, indent: str = "") -> str:
    """The text in lines that fit the terminal, no word of it broken; further lines are indented further."""
    width = shutil.get_terminal_size().columns
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=f"{indent}    ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _verdict(edit: Edit, edits: EditSet) -> Text | str:
    from rich.text import Text

    if edit.verdict is None:
        return "not checked"
    if edit.faithful:
        return Text("kept", "green")
    return Text("dropped" if edit in edits.dropped else edit.verdict.word, "red")


def _measured(edit: Edit) -> tuple[str, str, str]:
    if edit.verdict is None:
        return "", "-", "-"
    numbers = (edit.verdict.value, edit.verdict.bound)
    value, bound = ("-" if number is None else f"{number:.3f}" for number in numbers)
    return shown(edit.verdict.measure), value, bound
