"""What is answered when something cannot be done, in the shape that the `openai` client reads."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ctxrep_plugins.server.logs import fault

from ctxrep_edit import CtxrepError, InputError, PipelineBusy, Unfaithful

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""Types of errors by status; below 500 the others are "invalid_request_error", above "server_error"."""
HOPELESS = ("time_limit", "worker_ended")
"""Codes of what was tried often enough."""


CALLED = {
    "instruction": "prompt", "check": "preserve", "references": "image", "reference": "image",
    "on_preview": "partial_images",
}  # fmt: skip
"""Parameters by what the library calls them."""


class Refused(InputError):
    """A request that is refused. param: the parameter at fault; code: for programs; wait: seconds to `Retry-After`."""

    def __init__(
        self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None,
        wait: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.param, self.status, self.code, self.wait = param, status, code, wait


class Cancelled(CtxrepError):
    """Nobody waits for these edits any longer."""

    def __init__(self, message: str = "Nobody waits for these edits any longer.") -> None:
        super().__init__(message)


def refusal(error: BaseException, request_id: str, known: Collection[str] = ()) -> Refused:
    """`error` as what a client is told. known: parameters, of which the first that the message names is at fault.

    What is not the client's fault is told without its message, which may name files of the server.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, Unfaithful):
        return Refused(str(error), "on_unfaithful", status=422, code="unfaithful")
    if isinstance(error, InputError):
        return Refused(str(error), param_in(str(error), known))
    if isinstance(error, PipelineBusy):
        return Refused("The model is at work for somebody else: try again.", status=503, code="busy", wait=5)
    if isinstance(error, Cancelled):
        return Refused("The server is being stopped: try again.", status=503, code="stopped", wait=5)
    kind = fault(error)["error"]
    what = "out_of_memory" if "OutOfMemory" in kind or kind == "MemoryError" else None
    mend = "Ask for fewer edits, or for a smaller batch_size." if what else "Its log says why, under this id."
    return Refused(f"The server could not do it (request {request_id}). {mend}", status=500, code=what)


def param_in(message: str, known: Collection[str]) -> str | None:
    """The parameter that a message of the library speaks of."""
    words = [CALLED.get(word, word) for word in re.findall(r"[A-Za-z_]+", message)]
    return next((word for word in words if word in known), None)


def body(refused: Refused) -> Mapping[str, Any]:
    """As JSON."""
    usual = "server_error" if refused.status >= 500 else "invalid_request_error"
    kind = TYPES.get(refused.status, usual)
    return {"error": {"message": str(refused), "type": kind, "param": refused.param, "code": refused.code}}


def headers(refused: Refused) -> dict[str, str]:
    """Says when to come again, or that asking again as the `openai` client does by itself is of no use."""
    if refused.code in HOPELESS:
        return {"x-should-retry": "false"}
    return {} if refused.wait is None else {"retry-after": str(refused.wait)}
