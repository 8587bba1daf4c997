"""What a recipe says of where its pictures come from: the pictures that went in, the steps, and what computed them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from PIL import Image

from ctxrep_edit import __version__
from ctxrep_edit.plugins.adapter import Request
from ctxrep_edit.plugins.contracts import Strategy
from ctxrep_edit.settings import Repulsion

if TYPE_CHECKING:
    from ctxrep_edit.sampling.varying import Wordings

PACKAGES = ("torch", "diffusers", "transformers")


def stated_of(
    name: str,
    pipeline: Any,
    strategy: Strategy,
    settings: Repulsion,
    request: Request,
    wordings: Wordings,
    n: int,
    options: Mapping[str, Any],
    unlike: Sequence[Any],
) -> dict[str, Any]:
    """For a recipe: what was asked for. name: of the model. unlike: edits and pictures that it is repelled from."""
    plain = (str, int, float, bool, type(None))
    return {
        "ctxrep_edit": __version__,
        "model": name,
        "pipeline": type(pipeline).__name__,
        "n": n,
        "size": list(request.size),
        **({"vary": list(wordings.values)} if wordings.values else {}),
        "strategy": strategy.name,
        **getattr(strategy, "stated", {}),
        **({"unlike": [_named(one) for one in unlike]} if unlike else {}),
        "repulsion": {name: getattr(settings, name) for name in settings.__dataclass_fields__},
        "pipeline_kwargs": {k: v if isinstance(v, plain) else type(v).__name__ for k, v in options.items()},
    }


def _named(one: Any) -> Any:
    return fingerprint(one) if isinstance(one, Image.Image) else one.seed


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
