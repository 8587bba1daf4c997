"""Asks the checks, and keeps what goes wrong in one of them from costing the edits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

import torch

from ctxrep_edit.errors import CtxrepError, InputError, PluginError
from ctxrep_edit.faithfulness.case import Case
from ctxrep_edit.faithfulness.guards import Shown, plain
from ctxrep_edit.plugins import catalog
from ctxrep_edit.plugins.contracts import Check, Verdict
from ctxrep_edit.plugins.loading import STRICT, BrokenPlugin

DEFAULT_CHECKS = ("preservation", "change", "alignment")
"""What preserve="auto" asks, beside the checks of an embedded model."""


def checks_named(preserve: str | Sequence[str | Check], also: Sequence[str] = ()) -> list[Check]:
    """From "auto", "off" or names and checks to checks, each once. also: what "auto" asks too. Raises InputError, also
    for two checks of one name, of which only one could be heard."""
    if preserve not in ("auto", "off") and (isinstance(preserve, str) or not isinstance(preserve, Sequence)):
        raise InputError(f"preserve is {preserve!r}, but must be 'auto', 'off' or a list of checks.")
    if isinstance(preserve, str):
        preserve = (*DEFAULT_CHECKS, *also) if preserve == "auto" else ()
    asked: dict[str, tuple[str | Check, Check]] = {}  # by name: as it was given, and the check
    for given in preserve:
        check = catalog.CHECKS.get(given)
        first, _ = asked.setdefault(check.name, (given, check))
        if first is not given and not (isinstance(first, str) and first == given):
            raise InputError(
                f"preserve has two checks called {check.name!r}, whose verdicts would replace each other: give one of "
                "them another `name`, or leave it out."
            )
    return [check for _, check in asked.values()]


def prepared(checks: Sequence[Check]) -> None:
    """Has each of them look for what it needs. Raises the CtxrepError of one that lacks something, and PluginError for
    one that raises anything else."""
    for check in checks:
        try:
            check.prepare()
        except CtxrepError:
            raise
        except Exception as error:  # whatever it raises
            raise PluginError(
                f"The check {check.name} cannot be prepared: {type(error).__name__}: {str(error).removesuffix('.')}. "
                "Leave it out, or mend it."
            ) from error


def judge(case: Case, checks: Sequence[Check]) -> list[dict[str, Verdict]]:
    """For each edit what each check says, by the check's name.

    A check that raises, gives what is no Verdict or changes the pictures that it is shown, which are put right again,
    gives verdicts that are not kept and say so, with the warning BrokenPlugin: the edits are made, and are neither lost
    nor passed unseen. In strict mode (CTXREP_EDIT_STRICT) it is a PluginError.
    """
    with torch.device("cpu"):  # where the case's pictures are, whatever the caller's default device
        shown = Shown(case)
        said = {check.name: _ask(check, case, shown) for check in checks}
    return [{name: verdicts[i] for name, verdicts in said.items()} for i in range(len(case.edits))]


def _ask(check: Check, case: Case, shown: Shown) -> Sequence[Verdict]:
    n = len(case.edits)
    try:
        try:
            verdicts = list(check.verdicts(case))
        finally:
            changed = shown.restored()
        if changed:
            raise PluginError(f"it changed the case's {' and '.join(changed)} in place, and must work on a copy")
        if len(verdicts) != n or not all(isinstance(verdict, Verdict) for verdict in verdicts):
            raise PluginError(f"it gave {len(verdicts)} verdicts of {n}, each of which must be a Verdict")
        return [plain(verdict) for verdict in verdicts]
    except Exception as error:  # whatever it raises
        cause = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        message = f"The check {check.name} failed: {cause}. Mend it, or leave it out of preserve."
        if os.environ.get(STRICT, "") not in ("", "0"):
            raise PluginError(message) from error
        warnings.warn(message, BrokenPlugin, stacklevel=4)
        return [_not_judged(cause)] * n


def unjudged(checks: Sequence[Check], n: int, error: BaseException) -> list[dict[str, Verdict]]:
    """What `judge` says of n edits where it came to no end."""
    verdict = _not_judged(type(error).__name__)
    return [{check.name: verdict for check in checks} for _ in range(n)]


def _not_judged(cause: str) -> Verdict:
    return Verdict(False, "nothing", None, None, f"not judged: {cause}")
