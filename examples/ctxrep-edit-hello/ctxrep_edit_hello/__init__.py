"""What this plugin brings. Nothing here imports torch: every start of ctxrep-edit reads this file."""

from collections.abc import Iterable

from ctxrep_edit import Adapter, Check, Strategy, hookimpl

ctxrep_api = "1.0"  # the API that it was written for


@hookimpl
def ctxrep_adapters() -> Iterable[Adapter]:
    from ctxrep_edit_hello.adapter import HelloAdapter

    return [HelloAdapter()]


@hookimpl
def ctxrep_strategies() -> Iterable[Strategy]:
    from ctxrep_edit_hello.strategy import HelloStrategy

    return [HelloStrategy()]


@hookimpl
def ctxrep_checks() -> Iterable[Check]:
    from ctxrep_edit_hello.check import HelloCheck

    return [HelloCheck()]
