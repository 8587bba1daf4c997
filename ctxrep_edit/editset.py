"""The result: six edits that know where they come from."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, overload

from PIL import Image, PngImagePlugin

from ctxrep_edit.errors import OutputError
from ctxrep_edit.preservation import Verdict
from ctxrep_edit.sheet import Cell, Row, contact_sheet

RECIPE = "ctxrep-edit"  # key of the PNG text chunk


@dataclass(frozen=True)
class Edit:
    """One candidate. `lpips` and `verdict` are None where the check was switched off.

    image: RGB, in the source's aspect. seed: of this candidate's own noise: `diverse_edit(..., n=1, seed=edit.seed)`
    starts from it. index: position in the set, from 0. strength: of the repulsion that moved it, without units; 0 for a
    plain edit, None where the raw eta was given.
    """

    image: Image.Image = field(repr=False)
    seed: int
    index: int
    verdict: Verdict | None
    strength: float | None

    @property
    def lpips(self) -> float | None:
        """LPIPS to the source where nothing should have changed, >= 0."""
        return self.verdict.lpips if self.verdict else None

    def to_dict(self) -> dict[str, Any]:
        verdict = self.verdict.to_dict() if self.verdict else None
        return {"index": self.index, "seed": self.seed, "strength": self.strength, "verdict": verdict}

    def _repr_png_(self) -> bytes:
        return _png(self.image)


@dataclass(frozen=True)
class EditSet(Sequence[Edit]):
    """The edits of one picture and instruction, with the recipe that makes them again.

    source: the picture as the model saw it, in the source's aspect. contextual_vendi: Vendi score (1 to n) of the
    contextual tokens before and after repulsion, averaged over blocks and steps; None without repulsion. seconds: of
    sampling, without loading and checking.
    """

    instruction: str
    source: Image.Image
    edits: tuple[Edit, ...]
    recipe: Mapping[str, Any]
    contextual_vendi: tuple[float, float] | None
    seconds: float

    @overload
    def __getitem__(self, index: int) -> Edit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Edit]: ...
    def __getitem__(self, index: int | slice) -> Edit | Sequence[Edit]:
        return self.edits[index]

    def __len__(self) -> int:
        return len(self.edits)

    def __iter__(self) -> Iterator[Edit]:
        return iter(self.edits)

    @property
    def images(self) -> list[Image.Image]:
        return [edit.image for edit in self.edits]

    @cached_property
    def vendi(self) -> float:
        """Vendi score of the pictures, 1 (all alike) to n, over the AlexNet features of `perceptual.features`."""
        import torch

        from ctxrep_edit.imaging import to_tensor
        from ctxrep_edit.perceptual import features
        from ctxrep_edit.repulsion import vendi_score

        size = tuple(self.recipe["size"])  # as sampled: large enough for AlexNet whatever the aspect
        return vendi_score(features(torch.cat([to_tensor(image.resize(size)) for image in self.images])))

    def row(self, heading: str | None = None) -> Row:
        """The set as a row of a contact sheet."""
        cells = [Cell(self.source, "source")]
        for edit in self.edits:
            score = "" if edit.lpips is None else f"  LPIPS {edit.lpips:.3f}"
            cells.append(Cell(edit.image, f"seed {edit.seed}{score}", edit.verdict.kept if edit.verdict else None))
        return Row(heading or self.instruction, cells)

    def sheet(self) -> Image.Image:
        """Source and edits in one labelled picture; captions are green where the check passed, red where not."""
        return contact_sheet([self.row()])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, as JSON takes it."""
        return {
            "instruction": self.instruction,
            "recipe": dict(self.recipe),
            "contextual_vendi": list(self.contextual_vendi) if self.contextual_vendi else None,
            "seconds": round(self.seconds, 3),
            "edits": [edit.to_dict() for edit in self.edits],
        }

    def save(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes `edit-1.png` … (the recipe in a text chunk), `sheet.png` and `edits.json`; returns their paths.

        All or nothing: the files are written aside and moved when complete. Raises OutputError.
        """
        target = Path(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target, prefix=".ctxrep-") as aside:
                names = [f"edit-{edit.index + 1}.png" for edit in self.edits]
                for name, edit in zip(names, self.edits, strict=True):
                    recipe = {"instruction": self.instruction, **self.recipe, **edit.to_dict()}
                    Path(aside, name).write_bytes(_png(edit.image, json.dumps(recipe)))
                Path(aside, "sheet.png").write_bytes(_png(self.sheet()))
                Path(aside, "edits.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n", "utf-8")
                written = [*names, "sheet.png", "edits.json"]
                for name in written:
                    os.replace(Path(aside, name), target / name)
        except OSError as error:
            raise OutputError(
                f"The edits cannot be written to {target}: {error.strerror or error}. Name a folder that you may "
                "write to, on a disk with room."
            ) from error
        return [target / name for name in written]

    def __repr__(self) -> str:
        checked = [edit.verdict.kept for edit in self.edits if edit.verdict]
        kept = f", {sum(checked)} of {len(checked)} kept the rest" if checked else ""
        seeds = f"seeds {self.edits[0].seed}-{self.edits[-1].seed}"
        return f"<EditSet {self.instruction!r}: {len(self)} edits, {seeds}{kept}, {self.seconds:.1f} s>"

    def _repr_png_(self) -> bytes:
        return _png(self.sheet())

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode()
        return f'<p>{html.escape(repr(self))}</p><img alt="contact sheet" src="data:image/png;base64,{picture}">'


def _png(image: Image.Image, recipe: str | None = None) -> bytes:
    chunks = PngImagePlugin.PngInfo()
    if recipe is not None:
        chunks.add_itxt(RECIPE, recipe)
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=chunks)
    return stream.getvalue()
