"""Tables of any of three kinds as rows of plain values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctxrep_edit import InputError

Line = tuple[str, dict[str, Any]]
"""Where it stands, as in "row 3 (line 4)", and its values by column."""


def read(file: Path) -> list[Line]:
    """Raises InputError for what is no table."""
    reader = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"{file} is no manifest by its name: give a .csv, .jsonl or .parquet file.")
    try:
        lines = [(f"row {number}{where}", values) for number, (where, values) in enumerate(reader(file), 1)]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not in UTF-8: save it as such.") from error
    if not lines:
        raise InputError(f"{file} has no rows: give one for each set of edits.")
    return lines


def _csv(file: Path) -> Iterator[Line]:
    with open(file, encoding="utf-8-sig", newline="") as stream:
        first = stream.readline()
        mark = max(",;\t", key=first.count)  # what the names stand apart by: some programs save with semicolons or tabs
        stream.seek(0)
        found = csv.reader(stream, strict=True, delimiter=mark)
        try:
            names = [name.strip() for name in next(found, [])]
            for name in names:
                if names.count(name) > 1 or not name:
                    raise InputError(f"{file} has {names.count(name)} columns called {name!r}: give each its own name.")
            for cells in found:
                if not any(cells):
                    continue
                if len(cells) != len(names):
                    raise InputError(
                        f"{file}, line {found.line_num}: {len(cells)} cells, but there are {len(names)} columns: "
                        f"put text with {mark!r} between double quotes."
                    )
                yield f" (line {found.line_num})", dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise InputError(f"{file}, line {found.line_num}: it is no CSV: {error}.") from error


def _jsonl(file: Path) -> Iterator[Line]:
    with open(file, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError as error:
                raise InputError(f"{file}, line {number}: it is no JSON: {error}.") from error
            if not isinstance(values, dict):
                raise InputError(f'{file}, line {number}: it must be one JSON object, such as {{"image": ...}}.')
            yield f" (line {number})", values


def _parquet(file: Path) -> Iterator[Line]:
    parquet = need_parquet()
    import pyarrow

    try:
        table = parquet.read_table(file)
    except pyarrow.ArrowInvalid as error:
        raise InputError(f"{file} is no Parquet: {error}") from error
    yield from (("", values) for values in table.to_pylist())


def need_parquet() -> Any:
    """The module that reads and writes Parquet. Raises InputError."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow, which is not installed: pip install 'ctxrep-edit[parquet]'."
        ) from error
    return pyarrow.parquet


def encoded(form: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> bytes:
    """Rows as a file of csv or parquet. columns: which, and their types in Arrow's words. Raises InputError."""
    if form == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(columns))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    parquet, stream = need_parquet(), io.BytesIO()
    import pyarrow

    schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()])
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows], schema), stream)
    return stream.getvalue()
