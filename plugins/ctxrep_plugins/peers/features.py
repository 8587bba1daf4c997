"""Methods that change what is inside the transformer."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ctxrep_edit.contracts import Run, Strategy

if TYPE_CHECKING:
    import torch

    from ctxrep_edit.adapter import Order
    from ctxrep_edit.steps import Clock


class Dave(Strategy):
    """DAVE (2026, arXiv 2606.06813): attenuates the spatial mean of the image tokens in the first steps.

    The mean over the picture locks the layout early and alike for all seeds, its authors find. After each block of the
    middle third the generated tokens lose a share of their mean. strength: that share, 1 takes all of it away.
    """

    name = "dave"
    summary = "DAVE: takes a share of the spatial mean from the image tokens in the first sixth of the steps"
    strength = 0.5
    PART = 1 / 6  # of the steps

    def sample(self, run: Run) -> torch.Tensor:
        from ctxrep_edit.steps import before_each_call

        state: dict[str, Any] = {"on": False}

        def note(clock: Clock, call: dict[str, Any]) -> None:
            first = clock.step < max(1, round(self.PART * len(run.pipeline.scheduler.timesteps)))
            state.update(
                on=first,
                clock=clock,
                generated=run.adapter.generated(call),
                text=run.adapter.text_length(call),
            )

        transformer = run.adapter.transformer(run.pipeline)
        blocks = [(block, order) for name, order in run.adapter.streams.items() for block in getattr(transformer, name)]
        middle = blocks[len(blocks) // 3 : len(blocks) - len(blocks) // 3]
        with ExitStack() as hooks, before_each_call(run, note):
            for block, order in middle:
                hooks.callback(block.register_forward_hook(self._hook(run, state, order)).remove)
            return run.call()

    def _hook(self, run: Run, state: dict[str, Any], order: Order) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if not state["on"]:
                return output
            joint = order == "joint"
            place = 0 if joint else order.index("image")
            image = output if joint else output[place]  # (batch, tokens, dim)
            first = state["text"] if joint else 0
            last = None if state["generated"] is None else first + state["generated"]
            rows = state["clock"].rows(len(image))
            image = image.clone()
            made = image[rows, first:last]  # (n, generated, dim), a view
            made -= run.settings.strength * made.mean(1, keepdim=True)
            return image if joint else (*output[:place], image, *output[place + 1 :])

        return hook
