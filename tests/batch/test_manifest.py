"""Rows are read alike from any kind of table, and all that is wrong with them is said at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from batching import row
from ctxrep_plugins.batch import manifest, tables
from ctxrep_plugins.batch.columns import COLUMNS
from ctxrep_plugins.batch.command import batch

from ctxrep_edit import InputError

Write = Callable[..., Path]
ROWS = [
    {"image": "a.png", "instruction": "add a sticker", "n": 3, "strength": 0.5, "restore": True, "preserve": "off"},
    {"image": "b.png", "instruction": "change the light, softly", "seed": 7, "mask": "a.png", "strength": "auto"},
    {"image": "b.png", "instruction": "add a frame", "preserve": "preservation alignment", "guidance_scale": 2},
]


def read(file: Path, seed: int = 0) -> list[manifest.Row]:
    return manifest.read(file, 6, seed)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_spreadsheet_may_save_with_another_mark(desk: Path, mark: str) -> None:
    file = desk / "saved.csv"
    file.write_text(f"image{mark}instruction{mark}n\nb.png{mark}change the light, softly{mark}3\n", "utf-8-sig")
    assert [(one.instruction, one.n) for one in read(file)] == [("change the light, softly", 3)]
    file.write_text(f"image{mark}instruction\nb.png{mark}one{mark}two\n")
    with pytest.raises(InputError, match="3 cells, but there are 2 columns: put text with"):
        read(file)


def test_tables_of_all_kinds_say_the_same(desk: Path, write: Write) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lines = desk / "rows.jsonl"
    lines.write_text("\n".join(json.dumps(one) for one in ROWS) + "\n\n")
    texts = [{**one, "strength": str(one["strength"])} if "strength" in one else one for one in ROWS]
    gaps = dict.fromkeys(name for one in texts for name in one)
    parquet.write_table(pyarrow.Table.from_pylist([{**gaps, **one} for one in texts]), desk / "rows.parquet")
    first, *others = [read(file) for file in (write(ROWS), lines, desk / "rows.parquet")]
    assert [one.n for one in first] == [3, 6, 6]
    assert first[0].options == {"strength": 0.5, "restore": True, "preserve": "off"}
    assert first[1].seed == 7
    assert first[1].mask == desk / "a.png"
    assert first[1].options == {"strength": "auto"}
    assert first[2].options == {"preserve": ["preservation", "alignment"], "guidance_scale": 2.0}
    for other in others:
        assert [(one.id, one.seed, one.options, one.image) for one in other] == [
            (one.id, one.seed, one.options, one.image) for one in first
        ]


def test_seeds_and_ids_do_not_depend_on_the_order(write: Write) -> None:
    one, other = read(write(ROWS)), read(write(ROWS[::-1]))
    assert {row.id: row.seed for row in one} == {row.id: row.seed for row in other}
    assert len({row.seed for row in one}) == 3
    again = read(write(ROWS), seed=1)
    assert [row.id for row in again] == [row.id for row in one]
    assert again[0].seed != one[0].seed
    assert again[1].seed == 7


def test_every_fault_is_listed(write: Write) -> None:
    wrong = {
        "id": "../x", "image": "none.png", "mask": "none.png", "n": 0, "seed": 1.5, "strength": -1, "strategy": "none",
        "steps": "x", "preserve": "nothing", "on_unfaithful": "cry", "restore": "perhaps", "guidance_scale": "nan",
        "denoising_strength": 2,
    }  # fmt: skip
    file = write([row(), {**row(), "instruction": "", "strenght": 1, **wrong}])
    with pytest.raises(InputError) as error:
        read(file)
    head, *lines = str(error.value).splitlines()
    assert head == f"{file} has {len(wrong) + 2} faults, so nothing was begun:"
    assert lines[0].strip() == "row 1 (line 2), strenght: there is no such column: did you mean strength?"
    for name in (*wrong, "instruction"):
        assert [line for line in lines if line.startswith(f"  row 2 (line 3), {name}: ")], name
    assert "  row 2 (line 3), n: is '0', but must be a whole number, at least 1." in lines


def test_rows_of_one_id_are_refused(write: Write) -> None:
    for rows in ([row(), row()], [row(id="x"), row(id="X", n=3)]):
        with pytest.raises(InputError, match=r"row 2 \(line 3\), id: .*row 1 \(line 2\)"):
            read(write(rows))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "image", "give a .csv"),
        ("a.csv", "image,instruction\n", "has no rows"),
        ("a.csv", "image,instruction\na.png,make it red, green\n", "line 2: 3 cells"),
        ("a.csv", "image,image\n", "2 columns called 'image'"),
        ("a.jsonl", '{"image": 1}\n{', "line 2: it is no JSON"),
        ("a.jsonl", "[1]", "line 1: it must be one JSON object"),
        ("a.parquet", "image", "is no Parquet"),
        ("none.csv", None, "cannot be read"),
    ],
)
def test_what_is_no_manifest(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match=said):
        read(tmp_path / name)


def test_without_pyarrow_the_mend_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install 'ctxrep-edit\[parquet\]'"):
        tables.read(tmp_path / "a.parquet")


def test_the_help_names_every_column() -> None:
    assert batch.help is not None
    words = batch.help.replace(",", " ").replace(";", " ").split()
    assert [name for name in COLUMNS if name not in words] == []
