"""What a recipe says of where its pictures come from: the pictures that went in, the steps, and what computed them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from PIL import Image

from ctxrep_edit.plugins.adapter import Request

PACKAGES = ("torch", "diffusers", "transformers")


def provenance(pipeline: Any, request: Request, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """For a recipe: `steps`, which `pipeline` is asked for by these arguments of its call, the `versions` of what
    computes, and the fingerprints of the `source`, the `mask` (None without one) and, where there are any, the
    `references`."""
    from ctxrep_edit.sampling.calling import parameters

    others = [fingerprint(picture) for picture in request.references]
    return {
        "steps": arguments.get("num_inference_steps", parameters(pipeline).get("num_inference_steps")),
        "versions": {package: version(package) for package in PACKAGES},
        "source": fingerprint(request.image),
        "mask": None if request.mask is None else fingerprint(request.mask),
        **({"references": others} if others else {}),
    }


def fingerprint(picture: Image.Image) -> dict[str, Any]:
    """`size`, (width, height) in pixels, and `sha256` of the pixels as hexadecimal digits: of the bytes of an RGB
    picture as `read_image` gives it, or of a mask with a byte a pixel, row by row from the top."""
    return {"size": list(picture.size), "sha256": hashlib.sha256(picture.tobytes()).hexdigest()}
