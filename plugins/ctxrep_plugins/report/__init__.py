"""A set as one HTML page that needs nothing else: pictures, regions, LPIPS maps, slider, verdicts, recipe."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Exporter

if TYPE_CHECKING:
    from PIL import Image

    from ctxrep_edit import Edit, EditSet

HOT = 0.5  # LPIPS that is painted in full
SHOWN = 512  # pixels: longer sides are brought down to it, which keeps the page small


class Report(Exporter):
    name = "report"
    summary = "report.html, one page: source, edits, regions, LPIPS maps, before/after slider, verdicts, recipe"

    def export(self, edits: EditSet, folder: Path) -> None:
        from jinja2 import Environment

        from ctxrep_edit import encode_json

        walk = edits.recipe.get("walk")  # one row, in order
        template = Path(__file__).with_name("report.html.jinja").read_text("utf-8")
        rows = [
            {
                "edit": edit, "name": _name(edit, walk), "image": _shown(edit.image), "outline": _outline(edit),
                "heat": _heat(edits, edit),
            }
            for edit in (*edits, *edits.dropped)
        ]  # fmt: skip
        page = Environment(autoescape=True).from_string(template)
        text = page.render(
            edits=edits,
            rows=rows,
            walk=walk,
            source=_shown(edits.source),
            number=_number,
            vendi=edits.vendi if len(edits) else None,
            distinct=edits.distinct if len(edits) else None,
            recipe=encode_json(edits.recipe),
        )
        (folder / "report.html").write_text(text, "utf-8", "backslashreplace")  # file names may be none of UTF-8


def _name(edit: Edit, walk: Mapping[str, Any] | None) -> str:
    numbered = f"edit {edit.index + 1}"
    if walk is not None and edit.index < len(walk["shares"]):
        numbered += f", {walk['shares'][edit.index]:.2f} of the way"
        return numbered if edit.seed is None else f"{numbered}, {edit.label}"
    return numbered if edit.label == numbered else f"{numbered}, {edit.label}"


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _url(image: Image.Image) -> str:
    from ctxrep_edit import encode_png

    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode()


def _shown(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((SHOWN, SHOWN))
    return _url(small)


def _outline(edit: Edit) -> str | None:
    """The border of the edited region, as a picture to lay over the edit."""
    from PIL import Image, ImageChops, ImageFilter

    if edit.region is None:
        return None
    scale = SHOWN / max(edit.region.size)
    size = (max(3, round(edit.region.width * scale)), max(3, round(edit.region.height * scale)))
    region = edit.region.resize(size, Image.Resampling.NEAREST)
    border = ImageChops.subtract(region, region.filter(ImageFilter.MinFilter(5)))
    lines = Image.new("RGBA", size, "#ff2d95")
    lines.putalpha(border)
    return _url(lines)


def _heat(edits: EditSet, edit: Edit) -> str:
    """The LPIPS map of source and edit, at the model's resolution, as a picture to lay over the edit."""
    import numpy as np
    from PIL import Image

    from ctxrep_edit import MIN_LPIPS_SIDE, lpips_map

    width, height = edits.recipe["size"]
    scale = max(1.0, MIN_LPIPS_SIDE / min(width, height))
    size = (round(width * scale), round(height * scale))
    heat = lpips_map(edits.source.resize(size), edit.image.resize(size))  # (h, w)
    pixels = np.zeros((*heat.shape, 4), np.uint8)
    pixels[..., 0], pixels[..., 1] = 255, 96
    pixels[..., 3] = (heat / HOT).clip(0, 1) * 230
    return _url(Image.fromarray(pixels))
