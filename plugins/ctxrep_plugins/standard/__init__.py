"""What comes with ctxrep-edit: the contextual strategy, the checks, the embedder of LPIPS, and the usual files.

These are small doors to the core; each takes the same way in as anybody's plugin.
"""

from __future__ import annotations

from collections.abc import Iterable

from ctxrep_plugins.checks import CHECKS
from ctxrep_plugins.checks.following import Following
from ctxrep_plugins.checks.identity import Identity
from ctxrep_plugins.report import Report
from ctxrep_plugins.standard.alexnet import AlexNet, Layout
from ctxrep_plugins.standard.contextual import Contextual
from ctxrep_plugins.standard.exporters import BankFile, Pictures, Sheet, Sidecar

from ctxrep_edit import Check, Embedder, Exporter, Strategy, hookimpl

ctxrep_api = "1.0"


@hookimpl
def ctxrep_strategies() -> Iterable[Strategy]:
    return [Contextual()]


@hookimpl
def ctxrep_checks() -> Iterable[Check]:
    return [*(check() for check in CHECKS), Following(), Identity()]


@hookimpl
def ctxrep_embedders() -> Iterable[Embedder]:
    return [AlexNet(), Layout()]


@hookimpl
def ctxrep_exporters() -> Iterable[Exporter]:
    return [Pictures(), Sheet(), Sidecar(), BankFile(), Report()]
