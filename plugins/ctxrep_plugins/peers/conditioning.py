"""Methods that disturb what the model is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctxrep_plugins.peers.noise import noise

from ctxrep_edit import Run, Strategy

if TYPE_CHECKING:
    import torch

    from ctxrep_edit import Clock


class PromptNoise(Strategy):
    """Noise on the prompt embedding in the first steps: the idea of SeedVarianceEnhancer, a node for ComfyUI.

    Half of the embedding's values, another half for each candidate, get uniform noise in the first fifth of the steps.
    strength: of the noise, in standard deviations of the embedding.
    """

    name = "prompt-noise"
    summary = "noise on half of the prompt embedding in the first fifth of the steps"
    SHARE, PART = 0.5, 0.2  # of the values; of the steps

    def sample(self, run: Run) -> torch.Tensor:
        from ctxrep_edit import before_each_call

        def change(clock: Clock, call: dict[str, Any]) -> None:
            if clock.step >= max(1, round(self.PART * len(run.pipeline.scheduler.timesteps))):
                return
            words = call["encoder_hidden_states"].clone()  # (batch, tokens, dim)
            rows = clock.rows(len(words))
            shape = tuple(words.shape[1:])
            uniform = (noise(run.seeds, shape, words) / 2**0.5).erf()  # in [-1, 1]
            chosen = noise(run.seeds, shape, words, step=1) < 0  # half of the values
            words[rows] += run.settings.strength * words[rows].std() * uniform * chosen
            call["encoder_hidden_states"] = words

        with before_each_call(run, change):
            return run.call()


class Cads(Strategy):
    """Condition-annealed sampling (Sadat et al. 2024, arXiv 2310.17347, eq. 3 to 6).

    The condition y becomes sqrt(gamma) y + s sqrt(1 - gamma) noise and is brought back to y's mean and deviation; gamma
    rises from 0 to 1 as t falls from TAU_2 to TAU_1. strength: s.
    """

    name = "cads"
    summary = "CADS: noise on the condition that is annealed away over the steps"
    strength = 0.25
    TAU_1, TAU_2 = 0.6, 0.9  # of the time t, which falls from 1 to 0

    def sample(self, run: Run) -> torch.Tensor:
        from ctxrep_edit import before_each_call

        def change(clock: Clock, call: dict[str, Any]) -> None:
            t = 1 - clock.step / len(run.pipeline.scheduler.timesteps)
            gamma = min(max((self.TAU_2 - t) / (self.TAU_2 - self.TAU_1), 0.0), 1.0)
            if gamma == 1.0:
                return
            for offset, name in enumerate(("encoder_hidden_states", "pooled_projections")):
                if call.get(name) is None:
                    continue
                whole = call[name].clone()
                rows = clock.rows(len(whole))
                y = whole[rows]  # (n, ...)
                drawn = noise(run.seeds, tuple(y.shape[1:]), y, step=2 * clock.step + offset)
                dims = tuple(range(1, y.ndim))
                mean, deviation = y.mean(dims, keepdim=True), y.std(dims, keepdim=True)
                new = gamma**0.5 * y + run.settings.strength * (1 - gamma) ** 0.5 * drawn
                new = (new - new.mean(dims, keepdim=True)) / new.std(dims, keepdim=True).clamp_min(1e-8)
                whole[rows] = new * deviation + mean
                call[name] = whole

        with before_each_call(run, change):
            return run.call()
