"""Methods that change what is inside the transformer."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ctxrep_edit import Run, Strategy

if TYPE_CHECKING:
    import torch

    from ctxrep_edit import Clock


class Dave(Strategy):
    """DAVE (Kwon et al. 2026, arXiv 2606.06813): attenuates the spatial mean of the image tokens in the first steps.

    After a block h becomes alpha mean(h) + (h - mean(h)), in all parts of the guidance's batch, as in the authors' code
    (github.com/daheekwon/DAVE); strength: 1 - alpha, for which they recommend 0.5 to 0.8. They choose blocks whose
    means agree between seeds (cosine of 0.99 or more), the last ones left out. In kontext-nano, whose pictures have 64
    tokens, only the last ones agree so well; the middle third, which comes next, stands in. A source picture's own
    tokens are left alone.
    """

    name = "dave"
    summary = "DAVE: takes a share of the spatial mean from the image tokens in the first steps"
    strength = 0.5
    PART = 0.15  # of the steps

    def sample(self, run: Run) -> torch.Tensor:
        from ctxrep_edit import before_each_call

        state: dict[str, Any] = {"on": False}

        def note(clock: Clock, call: dict[str, Any]) -> None:  # holds for the step's second call too, if it has one
            first = clock.step < max(1, round(self.PART * len(run.pipeline.scheduler.timesteps)))
            state.update(on=first, generated=run.adapter.generated(call), text=run.adapter.text_length(call))

        transformer = run.adapter.transformer(run.pipeline)
        blocks = [(block, order) for name, order in run.adapter.streams.items() for block in getattr(transformer, name)]
        middle = blocks[len(blocks) // 3 : len(blocks) - len(blocks) // 3]
        with ExitStack() as hooks, before_each_call(run, note):
            for block, order in middle:
                hooks.callback(block.register_forward_hook(self._hook(run.settings.strength, state, order)).remove)
            return run.call()

    def _hook(self, strength: float, state: dict[str, Any], order: Any) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if not state["on"]:
                return output
            image = _image(output, order).clone()  # (batch, tokens, dim)
            made = image[:, _made(state, order)]  # (batch, generated, dim), a view
            made -= strength * made.mean(1, keepdim=True)
            return _with_image(output, order, image)

        return hook


class FeatureSelfGuidance(Strategy):
    """Feature Self-Guidance (Bhat et al. 2026, arXiv 2606.27371): image tokens of the second block part, early on.

    While t is in [0.8, 1], tokens h that the second block returns take 30 steps h - w grad log mean exp(cos_ij / tau),
    the mean being over pairs of candidates. The block runs again on the result h~, and 0.4 block(h~) + 0.6 h~ goes on.
    strength: w.

    Taken from reports of the paper: the above, with 30 steps and 0.4. Assumed: tau is 0.5; a cosine is of all tokens of
    a candidate at once; h is measured in units of its own length, so that w means the same for any model (theirs is
    0.5, in units that we do not know; here it takes the cosines to their least); t is the scheduler's sigma, and the
    first step always counts; the second run differs from the first in h~ alone, and changes no text. Rows that do not
    follow the instruction are left alone, as are a source picture's own tokens, and a candidate without others.
    """

    name = "feature-self-guidance"
    summary = "Feature Self-Guidance: image tokens of the second block part in the first steps and pass it once more"
    strength = 0.15
    UNTIL, PASSED = 0.8, 0.4  # the time; the share of the tokens that passed the block once more
    ITERATIONS, TEMPERATURE = 30, 0.5

    def sample(self, run: Run) -> torch.Tensor:
        from ctxrep_edit import before_each_call

        if run.n < 2:
            return run.call()
        state: dict[str, Any] = {}
        scheduler = run.pipeline.scheduler

        def note(clock: Clock, call: dict[str, Any]) -> None:
            t = float(scheduler.sigmas[(scheduler.begin_index or 0) + clock.step])
            if clock.step == 0 or t >= self.UNTIL:
                state.update(clock=clock, generated=run.adapter.generated(call), text=run.adapter.text_length(call))

        transformer = run.adapter.transformer(run.pipeline)
        blocks = [(block, order) for name, order in run.adapter.streams.items() for block in getattr(transformer, name)]
        block, order = blocks[:2][-1]
        hook = block.register_forward_hook(self._hook(run.settings.strength, state, order), with_kwargs=True)
        try:
            with before_each_call(run, note):
                return run.call()
        finally:
            hook.remove()

    def _hook(self, strength: float, state: dict[str, Any], order: Any) -> Any:
        def hook(module: Any, args: tuple[Any, ...], call: dict[str, Any], output: Any) -> Any:
            if not state:  # another step, or one without the instruction
                return output
            image = _image(output, order).clone()  # (batch, tokens, dim)
            where = state["clock"].rows(len(image)), _made(state, order)
            state.clear()
            apart = self.dispersed(image[where].flatten(1).float(), strength).view_as(image[where]).to(image.dtype)
            given = (call["hidden_states"] if "hidden_states" in call else args[0]).clone()
            given[where] = apart
            if "hidden_states" in call:
                again = module.forward(*args, **{**call, "hidden_states": given})  # passes no hook of the block
            else:
                again = module.forward(given, *args[1:], **call)
            image[where] = apart.lerp(_image(again, order)[where], self.PASSED)
            return _with_image(output, order, image)

        return hook

    def dispersed(self, h: torch.Tensor, step: float) -> torch.Tensor:
        """h (n, numbers), n at least 2, after all steps of that size."""
        import torch

        length = h.norm(dim=1, keepdim=True)  # (n, 1)
        u = h / length
        products = (u @ u.T).double()  # (n, n), all that the steps need:
        mix = torch.eye(len(h)).to(products)  # they lead to mix @ u
        for _ in range(self.ITERATIONS):
            gram = mix @ products @ mix.T
            norms = gram.diagonal().sqrt()[:, None]  # (n, 1)
            units, cosines = mix / norms, gram / (norms * norms.T)
            weights = (cosines / self.TEMPERATURE).flatten().softmax(0).view_as(cosines)  # of the pairs
            uphill = weights @ units - (weights * cosines).sum(1, keepdim=True) * units
            mix = mix - step * 2 / self.TEMPERATURE * uphill / norms
        return length * (mix.to(u) @ u)


def _image(output: Any, order: Any) -> torch.Tensor:
    """Of what a block returns the tensor that holds the image tokens."""
    image: torch.Tensor = output if order == "joint" else output[order.index("image")]
    return image


def _with_image(output: Any, order: Any, image: torch.Tensor) -> Any:
    """What a block returns, with another such tensor in it."""
    return image if order == "joint" else tuple(image if name == "image" else output[i] for i, name in enumerate(order))


def _made(state: dict[str, Any], order: Any) -> slice:
    """Where in it the tokens of the picture being made are."""
    first = state["text"] if order == "joint" else 0
    return slice(first, None if state["generated"] is None else first + state["generated"])
