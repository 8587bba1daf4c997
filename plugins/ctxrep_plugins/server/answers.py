"""What is answered: the fields that the `openai` client knows, and ours beside them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctxrep_plugins.server.making import Making
from ctxrep_plugins.server.maps import region_b64
from ctxrep_plugins.server.parameters import Wanted
from ctxrep_plugins.server.pictures import encoded

if TYPE_CHECKING:
    from PIL import Image

    from ctxrep_edit import Edit, EditSet


def about(edit: Edit) -> dict[str, Any]:
    """What is known of an edit."""
    said = edit.to_dict()
    said.pop("file")
    deciding = edit.verdict
    return {
        **said, "lpips": edit.lpips, "faithful": edit.faithful, "reason": deciding.reason if deciding else None,
    }  # fmt: skip


def picture(edit: Edit, wanted: Wanted) -> dict[str, Any]:
    """An edit, as an entry of `data`."""
    region = {"region_b64": region_b64(edit.region)} if wanted.regions else {}
    return {"b64_json": encoded(edit.image, wanted.form), **about(edit), **region}


def about_set(edits: EditSet, spread: Mapping[str, Any], warnings: Sequence[str], model: str) -> dict[str, Any]:
    """What is known of a set. model: what its recipe calls the model, rather than a folder of the server."""
    stated = edits.to_dict()
    dropped = [{name: value for name, value in one.items() if name != "file"} for one in stated["dropped"]]
    return {
        **spread, "contextual_vendi": stated["contextual_vendi"], "seconds": stated["seconds"],
        "recipe": {**edits.recipe, "model": model}, "dropped": dropped, "warnings": list(warnings),
    }  # fmt: skip


def shape(image: Image.Image, wanted: Wanted) -> dict[str, Any]:
    """How the pictures are, in the words of the hosted API."""
    width, height = wanted.form.size or image.size
    transparent = image.mode == "RGBA" and not wanted.form.opaque
    said = {
        "background": "transparent" if transparent else "opaque", "output_format": wanted.form.format,
        "size": f"{width}x{height}",
    }  # fmt: skip
    return said | ({"safety_identifier": wanted.identifier} if wanted.identifier else {})


def counted(wanted: Wanted, patches: int, edits: int) -> dict[str, Any]:
    """Words, and patches of 16 x 16 pixels of the edits as they were made, as many of them for the source."""
    words = len(wanted.prompt.split())
    return {
        "input_tokens": words + patches, "input_tokens_details": {"text_tokens": words, "image_tokens": patches},
        "output_tokens": edits * patches,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": edits * patches},
        "total_tokens": words + patches + edits * patches,
    }  # fmt: skip


def answer(making: Making, model: str) -> Mapping[str, Any]:
    """The whole set at once."""
    edits = making.edits
    assert edits is not None
    how = shape(edits[0].image, making.wanted) if len(edits) else {}
    data = [picture(edit, making.wanted) for edit in edits]
    return {
        "created": int(time.time()), **how, "data": data, "usage": counted(making.wanted, making.patches, len(edits)),
        "set": about_set(edits, making.spread, making.warnings, model),
    }  # fmt: skip
