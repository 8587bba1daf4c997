"""Candidates on their way: what a picture will be, foreseen from its latents in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ctxrep_edit.errors import InputError, RepulsionError
from ctxrep_edit.imaging import to_picture
from ctxrep_edit.plugins.adapter import Adapter
from ctxrep_edit.plugins.contracts import StepCallback
from ctxrep_edit.repulsion.clock import noise_levels
from ctxrep_edit.sampling.calling import steps_of
from ctxrep_edit.sampling.pool import Pool
from ctxrep_edit.sampling.stepping import foreseeing
from ctxrep_edit.sampling.waiting import Resumption

OnPreview = Callable[["Forming"], None]


@dataclass(frozen=True)
class Forming:
    """The candidates of a batch after one of its steps, as `on_preview` is told of them.

    numbers: which candidates they are: the `index` of their edits. step: how many steps are done, of `steps`.
    """

    numbers: Sequence[int]
    step: int
    steps: int
    _foreseen: Callable[[int], Sequence[Image.Image]] = field(repr=False, compare=False)

    def pictures(self, side: int = 512) -> Sequence[Image.Image]:
        """What they will be, as far as can be told by now: RGB, one for each number, in the source's aspect, at most
        `side` pixels a side, at least 16. Not judged, nor restored onto the source.

        It is here, and only if it is asked, that the autoencoder decodes: latents that are made smaller first, so that
        a small preview costs little. Ask before `on_preview` returns. Raises InputError.
        """
        if isinstance(side, bool) or not isinstance(side, int) or side < 16:
            raise InputError(f"side is {side!r}, but must be a whole number of pixels, at least 16.")
        return self._foreseen(side)


@dataclass
class Foresight:
    """Foresees the pictures of one call of a pipeline, and tells of them after each step in which they can be.

    numbers: of the candidates that are kept. size: (width, height) in pixels at which is edited; shape: in the source's
    aspect. tell: is told.
    """

    adapter: Adapter
    pipeline: Any
    numbers: Sequence[int]
    size: tuple[int, int]
    shape: tuple[int, int]
    tell: OnPreview
    _clean: Callable[[], Tensor] | None = None
    _rows: int = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Watches the scheduler, which must be a copy lent for this run."""

        def seen(rows: int, clean: Callable[[], Tensor]) -> None:
            self._rows, self._clean = rows, clean

        try:
            with foreseeing(self.pipeline.scheduler, seen):
                yield
        finally:
            self._clean = None

    def after(self, first: StepCallback, started: int, part: Pool | Resumption | None) -> StepCallback:
        """`first`, and then whoever wants to know is told, once it is known which of the `started` candidates go on. A
        strategy that makes another number of them has no previews."""

        def after(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            tensors = first(pipe, step, timestep, tensors)
            rows, clean = range(started) if part is None else part.going, self._clean
            if self._rows == started and rows is not None and clean is not None:
                told = Forming(self.numbers, step + 1, steps_of(pipe), lambda side: self._pictures(clean, rows, side))
                self.tell(told)
            return tensors

        return after

    @torch.no_grad()
    def _pictures(self, clean: Callable[[], Tensor], rows: Sequence[int], side: int) -> list[Image.Image]:
        latents = self.adapter.unpacked(self.pipeline, clean()[list(rows)], self.size)  # (n, ..., h, w)
        scale = min(1.0, side / max(self.shape))
        if scale < 1:
            small = [max(1, round(length * scale)) for length in latents.shape[-2:]]
            inner = latents.shape[2:-2]  # frames, where there are any
            latents = F.interpolate(latents.float(), (*inner, *small), mode="area").to(latents.dtype)
        decoded = ((self.adapter.decode(self.pipeline, latents).float() + 1) / 2).cpu()  # (n, 3, h, w)
        shape = max(1, round(self.shape[0] * scale)), max(1, round(self.shape[1] * scale))
        return [to_picture(picture, shape) for picture in decoded]


def check_foreseen(on_preview: OnPreview | None, pipeline: Any, adapter: Adapter) -> None:
    """Raises InputError where pictures are to be foreseen, and none of the pipeline can be."""
    if on_preview is None:
        return
    if type(adapter).unpacked is Adapter.unpacked:
        raise InputError(
            f"on_preview: the adapter {adapter.name} of {type(pipeline).__name__} does not say how its latents are "
            "decoded, so there are no previews: leave it out."
        )
    try:
        noise_levels(pipeline)
    except RepulsionError as error:
        raise InputError(
            f"on_preview: by the sigmas of {type(pipeline.scheduler).__name__}, which are none of a flow, no picture "
            "can be foreseen: leave it out."
        ) from error
