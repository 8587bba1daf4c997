"""What attaching something to a pipeline could leave behind, so that before and after can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

Traces = Mapping[str, tuple[Any, ...]]


def traces(thing: Any) -> Traces:
    """Hooks, own forward and attributes of each module of a module or a pipeline, by its name; of a pipeline's other
    parts, such as its scheduler, which object it is and its attributes.

    Two are equal where nothing was hung on or taken off in between. diffusers itself leaves an empty registry of hooks
    on a transformer at its first call: call the pipeline once before the first look.
    """
    if isinstance(thing, nn.Module):
        return {name or "the module itself": _of_module(part) for name, part in thing.named_modules()}
    found: dict[str, tuple[Any, ...]] = {}
    for name, part in thing.components.items():
        if isinstance(part, nn.Module):
            found |= {f"{name}.{module}".rstrip("."): _of_module(each) for module, each in part.named_modules()}
        else:
            found[name] = (id(part), sorted(getattr(part, "__dict__", ())))
    return found


def left_behind(before: Traces, after: Traces) -> str:
    """The places in which two `traces` differ, for a message; "" where they do not."""
    places = {**before, **after}
    return ", ".join(sorted(place for place in places if before.get(place) != after.get(place)))


def _of_module(module: nn.Module) -> tuple[Any, ...]:
    registry = module.__dict__.get("_diffusers_hook")
    hooks = [*module._forward_hooks], [*module._forward_pre_hooks], [*getattr(registry, "hooks", ())]
    return sorted(module.__dict__), module.__dict__.get("forward"), *hooks
