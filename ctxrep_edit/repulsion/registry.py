"""A hook in the registry that diffusers keeps of a module, and the hooks of others that we cannot work beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from diffusers.hooks import HookRegistry
from torch import nn

from ctxrep_edit.errors import RepulsionError

NAME = "ctxrep_edit"
CACHE = "a cache that skips blocks or answers for them"
REFUSED = {
    "cache": CACHE,
    "fbc_": CACHE,  # FirstBlockCache
    "pyramid_attention": "a cache that gives a call of the transformer the attention of the call before, which may be "
    "of others",
    "cp_": "context parallelism, which gives each device a part of the tokens",
}
"""By what the names of their hooks hold, what makes of a repulsion something else."""
COMPILED = "_compiled_call_impl"  # what torch calls instead of a module that was compiled in place
MARK = "_is_cached"  # by which cache-dit, which keeps no hooks in the registry, knows its transformers again


class CalledInstead:
    """What torch calls instead of a module, as it does where that was compiled in place, until it is free again."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._before = {COMPILED: vars(module)[COMPILED]} if COMPILED in vars(module) else {}
        vars(module)[COMPILED] = self

    def ask(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the module as it was called before."""
        return (self._before.get(COMPILED) or self.module._call_impl)(*args, **kwargs)

    def free(self) -> None:
        """The module is called as before, or as it was compiled since."""
        if vars(self.module).get(COMPILED) is self:
            del vars(self.module)[COMPILED]
            vars(self.module).update(self._before)


class _Around(CalledInstead):
    """Of a compiled module, with a hook of ours around it, so that its graph stays whole."""

    def __init__(self, module: nn.Module, hook: Any) -> None:
        super().__init__(module)
        self.hook = hook

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = self.hook.pre_forward(self.module, *args, **kwargs)
        return self.hook.post_forward(self.module, self.ask(*args, **kwargs))


class Hooked:
    """A module with a hook of ours in its diffusers registry, or around it where it was compiled in place."""

    def __init__(self, module: nn.Module, hook: Any) -> None:
        self.module, self.hook = module, hook
        self.around = _Around(module, hook) if vars(module).get(COMPILED) is not None else None
        if self.around is not None:
            return
        self.registered = hasattr(module, "_diffusers_hook")
        self.registry = HookRegistry.check_if_exists_or_initialize(module)
        self.overridden = "forward" in self.registry._module_ref.__dict__
        self.registry.register_hook(hook, NAME)

    def free(self) -> None:
        """Removes the hook, and whatever only it brought along."""
        if self.around is not None:
            self.around.free()
            return
        place = self.registry._hook_order.index(NAME) + 1
        outer = self.registry._fn_refs[place:][:1]  # what another hook around ours calls
        forwards = [ref.forward for ref in outer]
        self.registry.remove_hook(NAME, recurse=False)
        for ref, forward in zip(outer, forwards, strict=True):
            if ref.original_forward is not None:  # diffusers forgets that such a hook has a forward of its own
                ref.original_forward, ref.forward = ref.forward, forward
        if self.registry.hooks:
            return
        if not self.overridden:
            del self.registry._module_ref.forward
        if not self.registered:
            del self.module._diffusers_hook


def is_repelled(transformer: nn.Module) -> bool:
    """Whether a repulsion is attached."""
    around = any(isinstance(vars(module).get(COMPILED), _Around) for module in transformer.modules())
    return around or any(name == NAME for name in _names(transformer))


def check_beside(transformer: nn.Module) -> None:
    """Raises RepulsionError where something else is hooked in that a repulsion cannot work beside."""
    if _is_one_graph(transformer):
        raise RepulsionError(
            f"{type(transformer).__name__} was compiled as a whole with fullgraph=True, so that no hook can act within "
            "it: compile it without, or its blocks alone, with compile_repeated_blocks(fullgraph=True)."
        )
    if getattr(transformer, MARK, False):
        raise RepulsionError(
            f"cache-dit is enabled on {type(transformer).__name__}, {CACHE}. Tokens could not be repelled there: take "
            "it off first, with cache_dit.disable_cache(pipeline)."
        )
    for name in _names(transformer):
        for part, what in REFUSED.items():
            if part in name:
                raise RepulsionError(
                    f"{type(transformer).__name__} has the hook {name!r}, {what}. Tokens could not be repelled there, "
                    "or others would be than those meant: take it off first, as with transformer.disable_cache()."
                )


def _is_one_graph(module: nn.Module) -> bool:
    """Whether it was compiled so that a break in its graph is an error, by `torch.compile` or in place."""
    kept = getattr(vars(module).get(COMPILED), "__closure__", None) or ()
    contexts = [vars(module).get("dynamo_ctx"), *(cell.cell_contents for cell in kept)]
    return any(getattr(context, "fullgraph", False) for context in contexts)


def _names(transformer: nn.Module) -> Iterator[str]:
    for module in transformer.modules():
        registry = getattr(module, "_diffusers_hook", None)
        if registry is not None:
            yield from registry.hooks
