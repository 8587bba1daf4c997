"""Loads plugins, and keeps what goes wrong in one of them to that one.

CTXREP_EDIT_PLUGINS=nano,flux_kontext    only these, by entry point or distribution
CTXREP_EDIT_PLUGINS=-hello               all but these
CTXREP_EDIT_STRICT=1                     a broken plugin is an error, not a warning
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pluggy

from ctxrep_edit.errors import PluginError
from ctxrep_edit.plugins import hookspecs
from ctxrep_edit.plugins.discovery import Offer, offers

SELECT = "CTXREP_EDIT_PLUGINS"
STRICT = "CTXREP_EDIT_STRICT"
Status = Literal["ok", "off", "broken", "contested"]


class BrokenPlugin(UserWarning):
    """A plugin cannot be used and is left out; everything else works."""


@dataclass
class Record:
    """One plugin, as `ctxrep-edit plugins` shows it.

    name: of the entry point. source: what it loads. distribution, version: where it comes from; empty if it was
    registered in code. hooks: those it implements. status: "off" by CTXREP_EDIT_PLUGINS, "broken" (then error says
    why), "contested" where another plugin has its name.
    """

    name: str
    source: str
    distribution: str = ""
    version: str = ""
    hooks: tuple[str, ...] = ()
    status: Status = "ok"
    error: str = ""

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.name} ({self.distribution} {self.version})" if self.distribution else f"{self.name} (in code)"

    def off(self, by: str = "") -> str:
        """What switches it off: its name, or another name for it, in the setting; or a call, if it came by one."""
        return f"{SELECT}=-{by or self.name}" if self.distribution else f"ctxrep_edit.unregister({self.name!r})"

    def to_dict(self) -> dict[str, Any]:
        shown = ("name", "version", "distribution", "source", "hooks", "status", "error")
        return {name: getattr(self, name) for name in shown}


@dataclass
class _State:
    manager: pluggy.PluginManager
    records: list[Record]


def records() -> list[Record]:
    """Every plugin that is installed or registered, by name. Never raises for a broken or contested one."""
    return sorted(_state().records, key=lambda record: (record.name, record.distribution))


def register(plugin: object, name: str) -> None:
    """Adds a plugin in code: a module or object with hooks. Raises PluginError where it cannot be used."""
    state = _state()
    taken = [other for other in state.records if other.name == name and other.status != "off"]
    if taken:
        raise PluginError(f"There is a plugin called {name} already, {taken[0].title}: register under another name.")
    state.records.append(_admit(state.manager, plugin, name))


def validate(plugin: object, name: str) -> None:
    """Raises PluginError, as `register` would, where a plugin cannot be used; registers nothing."""
    _admit(_manager(), plugin, name)


def unregister(name: str) -> None:
    """Takes out a plugin that was registered in code. Raises PluginError where there is none of that name."""
    state = _state()
    mine = [record for record in state.records if record.name == name and not record.distribution]
    if not mine:
        raise PluginError(f"No plugin called {name} was registered in code: only such a plugin can be taken out.")
    state.records.remove(mine[0])
    if state.manager.has_plugin(name):
        state.manager.unregister(name=name)


def results(hook: str, **arguments: Any) -> Iterator[tuple[Record, Any]]:
    """What each plugin returns from `hook`, by plugin name. A plugin that raises is left out from then on.

    Raises PluginError where two plugins have one name.
    """
    contested = [record for record in records() if record.status == "contested"]
    if contested:
        raise PluginError(f"Two plugins are called {contested[0].name}: {both(*contested[:2])}")
    yield from answers(hook, **arguments)


def answers(hook: str, **arguments: Any) -> Iterator[tuple[Record, Any]]:
    """As `results`, but passes over plugins of one name instead of raising."""
    manager = _state().manager
    for record in records():
        if hook not in record.hooks or record.status != "ok":
            continue
        (impl,) = (i for i in getattr(manager.hook, hook).get_hookimpls() if i.plugin_name == record.name)
        try:
            answer = impl.function(*(arguments[name] for name in impl.argnames))
            answer = list(answer) if isinstance(answer, Iterable) else answer  # a generator runs here
        except Exception as error:  # whatever it raises
            record.error = f"It raised in {hook}. "
            leave_out(record, error)
        else:
            yield record, answer


def notify(hook: str, **arguments: Any) -> None:
    """Tells every plugin of an event."""
    for _ in answers(hook, **arguments):
        pass


def heard(hook: str) -> bool:
    """Whether any plugin in use has that hook."""
    return any(hook in record.hooks and record.status == "ok" for record in records())


def leave_out(record: Record, error: Exception) -> None:
    """Notes that a plugin failed and warns with BrokenPlugin, or raises PluginError in strict mode."""
    record.status, record.error = "broken", record.error + _cause(error)
    manager = _state().manager
    if manager.has_plugin(record.name):
        manager.unregister(name=record.name)
    _complain(record, error)


def both(one: Record, two: Record) -> str:
    """Names two plugins and says how to choose between them."""
    first, second = (record.off(record.distribution if one.name == two.name else "") for record in (one, two))
    return f"{one.title} and {two.title}. Switch one off with {first} or {second}, or uninstall one."


def _complain(record: Record, error: BaseException) -> None:
    message = (
        f"The plugin {record.title} is left out. {record.error.rstrip('.')}. Update or uninstall it, or switch it "
        f"off with {record.off()}."
    )
    if os.environ.get(STRICT, "") not in ("", "0"):
        raise PluginError(message) from error
    warnings.warn(message, BrokenPlugin, stacklevel=4)


@cache
def _state() -> _State:
    """Loads every installed plugin, once; the order of installation plays no part."""
    manager = _manager()
    found = [(_record(offer), offer) for offer in offers()]
    found.sort(key=lambda pair: (pair[0].name, pair[0].distribution))
    wanted = _selection(os.environ.get(SELECT, ""), [record for record, _ in found])
    on = [record.name for record, _ in found if wanted[id(record)]]
    failed: list[tuple[Record, BaseException]] = []
    for record, offer in found:
        if not wanted[id(record)]:
            record.status = "off"
        elif on.count(record.name) > 1:
            record.status, record.error = "contested", "another plugin has this name"
        else:
            try:
                if offer.fault:
                    raise PluginError(offer.fault)
                _add(manager, offer.entry.load(), record)
            except (Exception, SystemExit) as error:  # whatever its import raises
                record.status, record.error = "broken", _cause(error)
                failed.append((record, error))
    for record, cause in failed:
        _complain(record, cause)
    return _State(manager, [record for record, _ in found])


def _record(offer: Offer) -> Record:
    return Record(offer.entry.name, offer.entry.value, offer.distribution, offer.version)


def _selection(text: str, found: list[Record]) -> Mapping[int, bool]:
    """Which records `text`, the value of CTXREP_EDIT_PLUGINS, switches on, by id."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    off = [item[1:] for item in items if item.startswith("-")]
    known = {record.name for record in found} | {record.distribution for record in found if record.distribution}
    if off and len(off) < len(items):
        raise PluginError(f"{SELECT}={text} both selects and switches off: give either names or names with a minus.")
    for item in off or items:
        if item not in known:
            raise PluginError(
                f"{SELECT} names {item!r}, which is not installed. Installed: {', '.join(sorted(known))}."
            )
    named = {id(r): r.name in (off or items) or r.distribution in (off or items) for r in found}
    return {key: not items or hit != bool(off) for key, hit in named.items()}


def _admit(manager: pluggy.PluginManager, plugin: object, name: str) -> Record:
    record = Record(name, f"{getattr(plugin, '__name__', type(plugin).__name__)}")
    try:
        _add(manager, plugin, record)
    except Exception as error:
        raise PluginError(f"The plugin {name} cannot be used. {_cause(error)}") from error
    return record


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _add(manager: pluggy.PluginManager, plugin: Any, record: Record) -> None:
    """Registers `plugin` as `record.name`, or leaves the manager as it was and raises."""
    check_api(getattr(plugin, "ctxrep_api", hookspecs.API_VERSION))
    try:
        manager.register(plugin, record.name)
        manager.check_pending()  # hooks that do not exist
        callers = manager.get_hookcallers(plugin) or []
        record.hooks = tuple(sorted(caller.name for caller in callers))
        if not callers:
            raise PluginError("It has no hook: decorate its functions with ctxrep_edit.hookimpl")
        mine = [impl for caller in callers for impl in caller.get_hookimpls() if impl.plugin_name == record.name]
        if any(impl.wrapper or impl.hookwrapper for impl in mine):
            raise PluginError("It wraps the hooks of others, which is not possible here: leave wrapper=True out")
    except BaseException:
        if manager.has_plugin(record.name):
            manager.unregister(name=record.name)
        raise


def check_api(needed: object) -> None:
    """Raises PluginError where a plugin that states `needed` as its `ctxrep_api` cannot be used."""
    ours = [int(part) for part in hookspecs.API_VERSION.split(".")]
    try:
        major, minor = (int(part) for part in str(needed).split("."))
    except ValueError:
        raise PluginError(f"Its ctxrep_api is {needed!r}, but must be major.minor, such as '1.0'") from None
    if (major, minor) > tuple(ours):
        raise PluginError(
            f"It needs API {needed} and this ctxrep-edit has {hookspecs.API_VERSION}: pip install -U ctxrep-edit"
        )
    if major < ours[0]:
        raise PluginError(f"It was written for API {needed} and this ctxrep-edit has {hookspecs.API_VERSION}")


def _cause(error: BaseException) -> str:
    return str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
