"""Runs a pipeline with a strategy and leaves the pipeline as it was found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ctxrep_edit.errors import PluginError
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import Run, StepCallback, Strategy
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.settings import Repulsion

OnStep = Callable[[int, int], None]


def sample(
    pipeline: Any,
    adapter: Adapter,
    strategy: Strategy,
    settings: Repulsion,
    arguments: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    progress: bool,
    on_step: OnStep | None,
    bank: Bank | None = None,
) -> tuple[Tensor, Run]:
    """Makes one candidate per seed: (n, 3, h, w) in [0, 1], and what the strategy noted. Strength 0 asks no strategy.

    bank: as in `Run`.

    Raises PluginError for a strategy, or an adapter's arguments, that make anything else, and whatever pipeline,
    strategy or `on_step` raise.
    """
    arguments = dict(arguments)
    theirs = arguments.pop("callback_on_step_end", None)

    def call(*, after_step: StepCallback | None = None, **changes: Any) -> Tensor:
        def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            for callback in (after_step, theirs):
                tensors = tensors if callback is None else {**tensors, **callback(pipe, step, timestep, tensors)}
            if on_step is not None:
                on_step(step + 1, pipe.num_timesteps)
            return tensors

        images = pipeline(**{**arguments, **changes}, callback_on_step_end=after).images
        if not isinstance(images, Tensor):
            raise PluginError(
                f"{type(pipeline).__name__} returned a {type(images).__name__}, but must return a tensor "
                "(n, 3, h, w) in [0, 1] where output_type is 'pt'."
            )
        return images.float().cpu()

    words = adapter.instruction(pipeline, arguments)
    run = Run(pipeline, adapter, call, arguments, seeds, settings, words, bank=bank)
    with _borrowed(pipeline, progress), _seeded(seeds[0], pipeline._execution_device):
        images = strategy.sample(run) if settings.active else run.call()
    if not settings.active:
        run.still = run.n
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[:2] != (run.n, 3):
        made = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        who = f"The strategy {strategy.name}" if settings.active else f"The call of the adapter {adapter.name}"
        raise PluginError(f"{who} made {made}, but must make ({run.n}, 3, h, w) in [0, 1].")
    return images, run


@contextmanager
def _borrowed(pipeline: Any, progress: bool) -> Iterator[None]:
    """Lends the pipeline a scheduler of its own and our progress bar; gives back what it had, whatever happens."""
    scheduler, bar = pipeline.scheduler, getattr(pipeline, "_progress_bar_config", None)
    own = copy.deepcopy(scheduler)
    try:
        pipeline.scheduler = own
        pipeline.set_progress_bar_config(**{"desc": "editing", **(bar or {}), "disable": not progress})
        yield
    finally:
        pipeline.scheduler = scheduler
        if bar is None:
            pipeline.__dict__.pop("_progress_bar_config", None)
        else:
            pipeline._progress_bar_config = bar


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's own generators, from which some pipelines draw past those they are given; gives them back.

    StableDiffusion3ControlNetInpaintingPipeline does for what its autoencoder makes of the cut-out picture.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@torch.no_grad()
def round_trip(pipeline: Any, image: Tensor) -> Tensor:
    """What the pipeline's autoencoder alone makes of `image`: the floor of any check. (n, 3, h, w) in [0, 1]."""
    vae = pipeline.vae
    encoded = vae.encode((image * 2 - 1).to(pipeline._execution_device, vae.dtype))
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    decoded: Tensor = vae.decode(latents).sample.float()
    return ((decoded + 1) / 2).clamp(0, 1).cpu()
