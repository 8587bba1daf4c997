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
    "cp_": "context parallelism, which gives each device a part of the tokens",
}
"""By what the names of their hooks hold, what makes of a repulsion something else."""


class Hooked:
    """A module with a hook of ours in its diffusers registry."""

    def __init__(self, module: nn.Module, hook: Any) -> None:
        self.module, self.hook = module, hook
        self.registered = hasattr(module, "_diffusers_hook")
        self.registry = HookRegistry.check_if_exists_or_initialize(module)
        self.overridden = "forward" in self.registry._module_ref.__dict__
        self.registry.register_hook(hook, NAME)

    def free(self) -> None:
        """Removes the hook, and whatever only it brought along."""
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
    return any(name == NAME for name in _names(transformer))


def check_beside(transformer: nn.Module) -> None:
    """Raises RepulsionError where something else is hooked in that a repulsion cannot work beside."""
    for name in _names(transformer):
        for part, what in REFUSED.items():
            if part in name:
                raise RepulsionError(
                    f"{type(transformer).__name__} has the hook {name!r}, {what}. Tokens could not be repelled there, "
                    "or others would be than those meant: take it off first, as with transformer.disable_cache()."
                )


def _names(transformer: nn.Module) -> Iterator[str]:
    for module in transformer.modules():
        registry = getattr(module, "_diffusers_hook", None)
        if registry is not None:
            yield from registry.hooks
