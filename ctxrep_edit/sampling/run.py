"""Runs a pipeline with a strategy, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ctxrep_edit.errors import InputError, ModelError, PluginError, RepulsionError
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import Run, StepCallback, Strategy
from ctxrep_edit.repulsion.bank import Bank
from ctxrep_edit.repulsion.ranks import Ranks
from ctxrep_edit.repulsion.registry import is_repelled
from ctxrep_edit.sampling.calling import CALLBACK, TOLD, opaque, pictures, steps_of
from ctxrep_edit.sampling.churn import churned
from ctxrep_edit.sampling.forming import Foresight
from ctxrep_edit.sampling.loan import at_work, borrowed, one_by_one, seeded
from ctxrep_edit.sampling.pool import Pool
from ctxrep_edit.sampling.stepping import drawing, followed
from ctxrep_edit.sampling.waiting import Resumption
from ctxrep_edit.settings import Repulsion

if TYPE_CHECKING:
    from ctxrep_edit.plugins.adapter import Words

OnStep = Callable[[int, int], None]


def sample(
    pipeline: Any,
    adapter: Adapter,
    strategy: Strategy,
    settings: Repulsion,
    arguments: Mapping[str, Any],
    seeds: Sequence[int],
    *,
    progress: bool | str,
    on_step: OnStep | None,
    part: Pool | Resumption | None = None,
    words: Words = None,
    bank: Bank | None = None,
    ranks: Ranks | None = None,
    foresight: Foresight | None = None,
) -> tuple[Tensor, Run, bool]:
    """Makes one candidate per seed, or what `part` makes of them. Strength 0 asks no strategy.

    progress: whether there is a bar, or what it says. part: of a run in which more start than are wanted. words, bank,
    ranks: `instruction`, `bank` and `ranks` of `Run`, where known. foresight: tells of the candidates while they form.
    Returns pictures (n, 3, h, w) in [0, 1], what the strategy noted, and whether the caller has stopped the run, by the
    pipeline's own `_interrupt` in a callback.

    Raises PluginError for a strategy, or an adapter's arguments, that make anything else, ModelError for pictures that
    overflowed, PipelineBusy, RepulsionError where a repulsion is attached, and whatever pipeline, strategy or `on_step`
    raise.
    """
    n = part.n if isinstance(part, Pool) else len(seeds)
    steps = _Steps(arguments.get(CALLBACK), on_step)
    arguments = {name: value for name, value in arguments.items() if name != CALLBACK}
    if told := getattr(steps.callback, "tensor_inputs", None) or arguments.get(TOLD):
        arguments[TOLD] = [*dict.fromkeys(("latents", *told))]  # which we follow, whatever the caller does

    def call(*, after_step: StepCallback | None = None, **changes: Any) -> Tensor:
        after = steps.after(after_step)
        after = after if part is None else part.after(after)
        after = after if foresight is None else foresight.after(after, len(seeds), part)
        with followed(pipeline, after) as following:
            images = pictures(pipeline, {**arguments, **changes, **following})
        if not isinstance(images, Tensor):
            raise PluginError(
                f"{type(pipeline).__name__} returned a {type(images).__name__}, but must return a tensor "
                "(n, 3, h, w) in [0, 1] where output_type is 'pt'."
            )
        return opaque(images.float().cpu())

    transformer = adapter.transformer(pipeline)
    with ExitStack() as held:
        held.enter_context(at_work(pipeline, transformer))
        if is_repelled(transformer):
            raise RepulsionError(
                "A repulsion is attached to this pipeline already, which would be part of these edits: detach it first."
            )
        held.enter_context(borrowed(pipeline, bool(progress), progress if isinstance(progress, str) else "editing"))
        held.enter_context(one_by_one(pipeline))
        held.enter_context(drawing(pipeline.scheduler, arguments.get("generator")))
        if adapter.draws_unasked:
            held.enter_context(seeded(seeds[0], pipeline._execution_device))
        if part is not None:
            held.enter_context(part.at_work(transformer))
        if foresight is not None:
            held.enter_context(foresight.at_work())
        words = adapter.instruction(pipeline, arguments) if words is None else words
        alone = replace(settings, oversample=1, churn=0.0)  # what is done around the strategy
        run = Run(pipeline, adapter, call, arguments, seeds[:n], alone, words, bank=bank, ranks=ranks)
        if settings.active and settings.churn:
            still = int(settings.anchor and (ranks is None or ranks.rank == 0))
            run.churn = [0.0] * still + [settings.churn] * (len(seeds) - still)
            if bank is not None:
                bank.started([(None, share) for share in run.churn])
            held.enter_context(churned(pipeline, settings, arguments.get("generator"), run.churn))
        try:
            images = strategy.sample(run) if settings.active else run.call()
        except RepulsionError:
            _check_handed(strategy, part, None)  # which is then the cause
            raise
    if not settings.active:
        run.still = run.n
    else:
        _check_handed(strategy, part, ranks)
    if part is not None:
        images, run.seeds = part.settle(images)
    who = f"The strategy {strategy.name}" if settings.active else f"The call of the adapter {adapter.name}"
    _check_pictures(images, run, who)
    return images, run, steps.stopped


def _check_pictures(images: Any, run: Run, who: str) -> None:
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[:2] != (run.n, 3):
        made = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise PluginError(f"{who} made {made}, but must make ({run.n}, 3, h, w) in [0, 1].")
    if broken := int((~images.isfinite()).flatten(1).any(1).sum()):
        raise ModelError(
            f"{broken} of {run.n} pictures of {type(run.pipeline).__name__} are not made of finite numbers, as where "
            "an autoencoder overflows in float16: load it with dtype=torch.bfloat16 or torch.float32."
        )


def _check_handed(strategy: Strategy, part: Pool | Resumption | None, ranks: Ranks | None) -> None:
    """Raises PluginError where the strategy kept to itself what `repelled` needs to know of others."""
    if ranks is not None and not ranks.crossed:
        raise PluginError(
            f"The strategy {strategy.name} does not hand run.ranks to `repelled`, so that candidates know nothing of "
            "those of other ranks: mend it, or make all of them in one process."
        )
    if isinstance(part, Pool) and part.n < part.m and not part.bank.handed:
        raise not_handed(strategy, "the candidates of a pool repelled only those beside them", "take oversample=1")


def not_handed(strategy: Strategy, so: str, otherwise: str) -> PluginError:
    """Of a strategy that keeps the bank to itself. so: what comes of that. otherwise: what does without it."""
    return PluginError(
        f"The strategy {strategy.name} does not hand run.bank to `repelled`, so that {so}: mend it, or {otherwise}."
    )


class _Steps:
    """What is called after each step: the strategy's part, then the caller's callback, then `on_step`."""

    def __init__(self, callback: StepCallback | None, on_step: OnStep | None) -> None:
        self.callback, self.on_step = callback, on_step
        self.stopped = False

    def after(self, first: StepCallback | None) -> StepCallback:
        def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if first is not None:
                tensors = {**tensors, **first(pipe, step, timestep, tensors)}
            ours = getattr(pipe, "_interrupt", False)
            if self.callback is not None:
                tensors = {**tensors, **_checked(self.callback(pipe, step, timestep, tensors))}
            if self.on_step is not None:
                self.on_step(step + 1, steps_of(pipe))
            self.stopped |= bool(getattr(pipe, "_interrupt", False)) and not ours
            return tensors

        return after


def _checked(changed: Any) -> Mapping[str, Any]:
    if not isinstance(changed, Mapping):
        raise InputError(
            f"callback_on_step_end returned {changed!r}, but must return the tensors that it was given, changed or "
            "not: end it with `return callback_kwargs`."
        )
    return changed


@torch.no_grad()
def round_trip(pipeline: Any, image: Tensor, adapter: Adapter | None = None) -> Tensor:
    """What the pipeline's autoencoder alone makes of pictures: the floor of any check. (n, 3, h, w) in [0, 1], both.

    adapter: of the pipeline; None finds it. Raises UnknownPipeline, and PluginError where the adapter makes pictures of
    another shape.
    """
    adapter = adapter or catalog.adapter_for(pipeline)
    decoded = adapter.decode(pipeline, adapter.encode(pipeline, image * 2 - 1))
    if decoded.shape != image.shape:
        raise PluginError(
            f"The adapter {adapter.name} makes {tuple(decoded.shape)} of {tuple(image.shape)} by the autoencoder of "
            f"{type(pipeline).__name__}: its encode and decode must give pictures of the size they were given."
        )
    return ((decoded.float() + 1) / 2).clamp(0, 1).cpu()


def strength_of(settings: Repulsion, row: int, run: Run) -> float | None:
    """With which the particle of that row was moved."""
    if row < run.still:
        return 0.0
    return settings.strength if settings.eta is None else None
