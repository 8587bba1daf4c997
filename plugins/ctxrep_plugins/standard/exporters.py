"""The usual files of a set: its pictures, one sheet of them all, and everything but the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ctxrep_edit import Exporter

if TYPE_CHECKING:
    from ctxrep_edit import EditSet


class Pictures(Exporter):
    name = "png"
    summary = "edit-1.png ..., each with its recipe in a text chunk, and source.png"

    def export(self, edits: EditSet, folder: Path) -> None:
        from ctxrep_edit import encode_png

        for edit in edits:
            (folder / edit.file).write_bytes(encode_png(edit.image, _recipe(edits, **edit.to_dict()), edits.credits))
        (folder / "source.png").write_bytes(encode_png(edits.source, _recipe(edits), edits.credits))


class Sheet(Exporter):
    name = "sheet"
    summary = "sheet.png, source and edits in one labelled picture"

    def export(self, edits: EditSet, folder: Path) -> None:
        from ctxrep_edit import encode_png

        (folder / "sheet.png").write_bytes(encode_png(edits.sheet(), _recipe(edits)))


class Sidecar(Exporter):
    name = "json"
    summary = "edits.json, everything but the pixels"

    def export(self, edits: EditSet, folder: Path) -> None:
        from ctxrep_edit import encode_json

        (folder / "edits.json").write_text(encode_json(edits.to_dict()) + "\n", "utf-8")


class BankFile(Exporter):
    name = "bank"
    summary = "bank.safetensors, with which the set can be continued: EditSet.more, ctxrep-edit more"

    def export(self, edits: EditSet, folder: Path) -> None:
        from ctxrep_edit import write_bank

        write_bank(edits, folder / "bank.safetensors")


def _recipe(edits: EditSet, **more: object) -> str:
    from ctxrep_edit import encode_json

    return encode_json({"instruction": edits.instruction, **edits.recipe, **more}, None)
