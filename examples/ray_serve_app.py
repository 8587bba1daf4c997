"""Different good edits as a Ray Serve application: replicas with a pipeline each, as many as there are requests for.

    pip install 'ctxrep-edit[ray]'
    python examples/ray_serve_app.py --model kontext-nano --replicas 4

POST /edits takes {"image": BASE64, "instruction": "change the light", "n": 4, "seed": 7}. A request is a set: one
replica makes all of its candidates. It answers with `edits`, each a PNG in base64 with its seed, LPIPS and verdict, and
with the set's Vendi score. `ctxrep-edit serve` speaks the images API and has keys and jobs; this has none of these, and
belongs behind what has.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
from contextlib import suppress
from typing import Any

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ctxrep_edit import InputError, diverse_edit, encode_json, encode_png, load_pipeline

OPTIONS = ("seed", "strength", "scope", "steps", "preserve", "restore", "on_unfaithful")
"""What a request may say beside its picture, instruction and n; a mask, say, could be a path of this machine."""
MOST = 16
"""Edits of a request."""


@serve.deployment(
    max_ongoing_requests=1,  # a pipeline makes one set at a time; the next one waits, or goes to another replica
    max_queued_requests=64,  # more are answered with 503
    health_check_timeout_s=60,
)
class Editor:
    """One pipeline. It answers while it works, as that is done in a thread of its own."""

    def __init__(self, model: str) -> None:
        self._pipeline = load_pipeline(model, progress=False)

    async def __call__(self, request: Request) -> Response:
        try:
            asked = await request.json()
            text = await asyncio.to_thread(self._edited, dict(asked))
        except (InputError, ValueError, TypeError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(text, media_type="application/json")

    def _edited(self, asked: dict[str, Any]) -> str:
        for name in asked:
            if name not in ("image", "instruction", "n", *OPTIONS):
                raise InputError(f"There is no parameter {name!r}: leave it out.")
        try:
            image = base64.b64decode(asked.pop("image", ""), validate=True)
        except (binascii.Error, TypeError) as error:
            raise InputError("image must be the bytes of a picture in base64.") from error
        n = asked.pop("n", 4)
        if n not in range(1, MOST + 1):
            raise InputError(f"n is {n!r}, but must be 1 to {MOST}.")
        words = asked.pop("instruction", None)
        made = diverse_edit(image, words, n, pipeline=self._pipeline, bank="off", progress=False, **asked)
        edits = [
            {
                "png": base64.b64encode(encode_png(edit.image)).decode(), "seed": edit.seed, "lpips": edit.lpips,
                "faithful": edit.faithful, "reason": edit.verdict.reason if edit.verdict else None,
            }
            for edit in made
        ]  # fmt: skip
        vendi = made.vendi if any(edit.verdicts for edit in made) else None
        return encode_json({"edits": edits, "vendi": vendi, "seconds": made.seconds}, indent=None)


def application(model: str, replicas: int, gpus: float) -> serve.Application:
    """replicas: at most; there is one while nobody asks. gpus: of each replica."""
    scaling = {"min_replicas": 1, "max_replicas": replicas, "target_ongoing_requests": 1, "downscale_delay_s": 300}
    return Editor.options(autoscaling_config=scaling, ray_actor_options={"num_gpus": gpus}).bind(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="kontext-nano")
    parser.add_argument("--address", default="local", help="of a Ray cluster [one on this machine]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--replicas", type=int, default=2, help="at most")
    parser.add_argument("--gpus", type=float, default=None, help="of each replica [1 where there are any]")
    asked = parser.parse_args()
    ray.init(asked.address, include_dashboard=False)
    gpus = float("GPU" in ray.cluster_resources()) if asked.gpus is None else asked.gpus
    serve.start(http_options={"host": asked.host, "port": asked.port})
    with suppress(KeyboardInterrupt):
        serve.run(application(asked.model, asked.replicas, gpus), route_prefix="/edits", blocking=True)


if __name__ == "__main__":
    main()
