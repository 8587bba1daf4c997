"""Other methods for different answers, written from their papers so that all can be compared on one bench.

Each is a strategy: `diverse_edit(..., strategy="cads", strength=0.2)`, `ctxrep-edit bench spread`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ctxrep_edit import Strategy, hookimpl

ctxrep_api = "1.0"


@hookimpl
def ctxrep_strategies() -> Iterable[Strategy]:
    from ctxrep_plugins.peers.conditioning import Cads, PromptNoise
    from ctxrep_plugins.peers.features import Dave, FeatureSelfGuidance
    from ctxrep_plugins.peers.group import GroupInference
    from ctxrep_plugins.peers.latents import ParticleGuidance, Sparke

    latents = [ParticleGuidance(), Sparke()]
    return [PromptNoise(), Cads(), *latents, Dave(), FeatureSelfGuidance(), GroupInference()]
