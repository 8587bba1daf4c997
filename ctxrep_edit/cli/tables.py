"""Edit sets as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from ctxrep_edit.results.editset import EditSet


def edits_table(sets: Mapping[str, EditSet]) -> Table:
    """One line per edit: set, seed, what the deciding check measured, its verdict and its reason."""
    table = Table(title=next(iter(sets.values())).instruction, title_justify="left")
    for heading in ("set", "seed", "measured", "verdict", "why"):
        table.add_column(heading, overflow="fold")
    for name, edits in sets.items():
        for edit in edits:
            if edit.verdict is None:
                table.add_row(name, str(edit.seed), "-", "not checked", "")
                continue
            word = "[green]kept[/green]" if edit.verdict.kept else "[red]changed[/red]"
            table.add_row(name, str(edit.seed), f"{edit.verdict.value:.3f}", word, edit.verdict.reason)
        table.add_section()
    return table


def sets_table(sets: Mapping[str, EditSet]) -> Table:
    """One line per set: Vendi score of its pictures and sampling time."""
    table = Table()
    for heading in ("set", "Vendi score", "seconds"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for name, edits in sets.items():
        table.add_row(name, f"{edits.vendi:.2f} of {len(edits)}", f"{edits.seconds:.2f}")
    return table
