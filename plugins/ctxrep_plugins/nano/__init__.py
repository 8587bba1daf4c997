"""The embedded models: a world of six edits on photographs, the models trained on it, and their judge."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ctxrep_edit import Check, EmbeddedModel, hookimpl

ctxrep_api = "1.0"
WEIGHTS = Path(__file__).with_name("weights")
MODELS = {
    "kontext-nano": "FLUX.1 Kontext in miniature: edits any photograph at 64 pixels, in six ways",
    "sd3-nano": "Stable Diffusion 3 that edits by instruction, in miniature: the same edits",
    "sd3-nano-turbo": "sd3-nano, distilled into four steps",
    "qwen-nano": "Qwen-Image-Edit in miniature: the same edits, on a megapixel of squares",
}
ADVICE = (
    "It knows: add a sticker, add a frame, change the light, change the style, recolour it, change the "
    "weather, and the same with details in words ('add a cat sticker at the top right'). For anything else "
    "name a big model: model='black-forest-labs/FLUX.1-Kontext-dev' (--model on the command line)."
)


def _knows(instruction: str) -> bool:
    from ctxrep_plugins.nano import world

    return world.understand(instruction) is not None


@hookimpl
def ctxrep_models() -> Iterable[EmbeddedModel]:
    asked = ("right-answer",)
    return [EmbeddedModel(name, WEIGHTS / name, summary, _knows, ADVICE, asked) for name, summary in MODELS.items()]


@hookimpl
def ctxrep_checks() -> Iterable[Check]:
    from ctxrep_plugins.nano.right_answer import RightAnswer

    return [RightAnswer()]
