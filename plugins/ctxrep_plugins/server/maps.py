"""Where a set's edits have changed their source: the edited regions and the LPIPS maps, as pictures beside them."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ctxrep_edit import Exporter

if TYPE_CHECKING:
    from PIL import Image

    from ctxrep_edit import Edit, EditSet

HOT = 0.5
"""LPIPS that is white in a heat map; black is none."""


def region_file(edit: Edit) -> str:
    return f"region-{edit.index + 1}.png"


def heat_file(edit: Edit) -> str:
    return f"heat-{edit.index + 1}.png"


class Maps(Exporter):
    """`region-1.png` ..., white where the edit was allowed or found; `heat-1.png` ..., how much LPIPS says that was
    changed where. Only of edits that were judged. before: folder of the set that this one continues, whose own are
    copied."""

    name = "maps"
    summary = "regions and heat maps"

    def __init__(self, before: Path | None = None) -> None:
        self.before = before

    def export(self, edits: EditSet, folder: Path) -> None:
        for edit in edits:
            if edit.region is not None:
                (folder / region_file(edit)).write_bytes(region_png(edit.region))
                if edit.verdicts:
                    heat(edits, edit).save(folder / heat_file(edit))
            elif self.before is not None:
                for name in (region_file(edit), heat_file(edit)):
                    if (self.before / name).is_file():
                        shutil.copyfile(self.before / name, folder / name)


def region_png(region: Image.Image) -> bytes:
    """A region as a PNG of one channel, 0 or 255."""
    stream = io.BytesIO()
    region.convert("L").save(stream, "PNG")
    return stream.getvalue()


def region_b64(region: Image.Image | None) -> str | None:
    return None if region is None else base64.b64encode(region_png(region)).decode()


def heat(edits: EditSet, edit: Edit) -> Image.Image:
    """The LPIPS map of source and edit, at the model's resolution, in grey."""
    import numpy as np
    from PIL import Image

    from ctxrep_edit import MIN_LPIPS_SIDE, lpips_map

    width, height = edits.recipe["size"]
    scale = max(1.0, MIN_LPIPS_SIDE / min(width, height))
    size = (round(width * scale), round(height * scale))
    found = lpips_map(edits.source.convert("RGB").resize(size), edit.image.convert("RGB").resize(size))  # (h, w)
    return Image.fromarray((np.asarray(found) / HOT * 255).clip(0, 255).astype(np.uint8))
