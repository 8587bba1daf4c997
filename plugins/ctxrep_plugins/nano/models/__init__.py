"""The embedded models: pipelines of diffusers' own classes in miniature, before they are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxrep_plugins.nano.models.model import Model


def untrained(name: str) -> Model:
    """`kontext-nano`, `sd3-nano`, `sd3-nano-turbo` or `qwen-nano`, its weights drawn from torch's generator."""
    if name == "kontext-nano":
        from ctxrep_plugins.nano.models.kontext import Kontext

        return Kontext()
    if name == "qwen-nano":
        from ctxrep_plugins.nano.models.qwen import Qwen

        return Qwen()
    from ctxrep_plugins.nano.models.sd3 import Sd3, Sd3Turbo

    return Sd3Turbo() if name == "sd3-nano-turbo" else Sd3()
