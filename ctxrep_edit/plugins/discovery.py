"""Finds plugins among the installed distributions, of which some may be broken.

`importlib.metadata.entry_points` reads all of them at once and fails with the first that is broken, whoever's it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import PurePath

from ctxrep_edit.plugins.hookspecs import PROJECT

FILE = "entry_points.txt"


@dataclass(frozen=True)
class Offer:
    """A plugin that a distribution names. distribution, version: its own. fault: why it cannot be loaded."""

    entry: EntryPoint
    distribution: str
    version: str
    fault: str = ""


def offers() -> list[Offer]:
    """What the entry points of our group name. Of distributions of one name the first whole one on the path counts."""
    named: dict[str, list[Distribution]] = {}
    for distribution in distributions():
        name = re.sub(r"[-_.]+", "-", _folder(distribution).stem.partition("-")[0]).lower()
        named.setdefault(name, []).append(distribution)
    unnamed = named.pop("", [])
    first = [next(filter(_stated, same), same[0]) if len(same) > 1 else same[0] for same in named.values()]
    return [offer for distribution in (*first, *unnamed) for offer in _offered(distribution)]


def _offered(distribution: Distribution) -> Iterator[Offer]:
    lines = [*_ours(_text(distribution, FILE))]
    if not lines:
        return
    folder, fields = _folder(distribution), HeaderParser().parsestr(_stated(distribution))
    name, version, fault = fields["Name"], fields["Version"], ""
    if not name or not version:
        name, _, version = folder.stem.partition("-")
        fault = f"{folder} states no name or version, as a rest of an uninstalled package does: delete that folder"
    for line in lines:
        entry, value = (part.strip() for part in line.partition("=")[::2])
        good = entry and EntryPoint.pattern.match(value)
        wrong = "" if good else f"Its {FILE} says {line!r}, but must say name = module"
        yield Offer(EntryPoint(entry or line, value, PROJECT), name, version, fault or wrong)


def _folder(distribution: Distribution) -> PurePath:
    """Such as .../hello-1.0.dist-info."""
    return PurePath(str(getattr(distribution, "_path", "")))


def _stated(distribution: Distribution) -> str:
    return _text(distribution, "METADATA") or _text(distribution, "PKG-INFO")


def _ours(text: str) -> Iterator[str]:
    """The lines of our group."""
    group = ""
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif group == PROJECT and line and not line.startswith(("#", ";")):
            yield line


def _text(distribution: Distribution, name: str) -> str:
    """The content of one of its files, "" where it cannot be read."""
    try:
        return distribution.read_text(name) or ""
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "replace")
    except Exception:  # whatever somebody's finder raises
        return ""
