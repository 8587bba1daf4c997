"""What a worker's process does: it loads its pipeline, and works with it until the server ends it, or ends itself."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from ctxrep_plugins.server.logs import Fault, fault, logger, told_by_libraries
from ctxrep_plugins.server.refusals import Cancelled, refusal
from ctxrep_plugins.server.warned import told

from ctxrep_edit import CtxrepError, Unfaithful

LOADED, TOLD, DONE, RAISED = range(4)
"""Kinds of news, with which the server is told: nothing, what the work tells, what it returns, what it raises."""
Load = Callable[[], Any]


def load(model: str, dtype: str | None, device: str | None) -> Any:
    from tqdm import tqdm

    from ctxrep_edit import load_pipeline

    tqdm.set_lock(threading.RLock())  # its own is one of several processes, and would outlive a killed one
    return load_pipeline(model, device=device, dtype=dtype, progress=False)


def main(number: int, load: Load, orders: Connection, news: Connection) -> None:
    """number: of the worker; load: makes its pipeline. orders: pairs of a number and what is to be done, or the number
    alone of what nobody waits for any longer; None ends it."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)  # meant for the server, which lets a set under way end
    threading.Thread(target=_follow, name="ctxrep-edit follower", daemon=True).start()
    log = logger().bind(worker=number)
    with told(lambda kind: log.warning("warning", category=kind)), told_by_libraries(log, logging.getLogger()):
        try:
            pipeline = load()
        except BaseException as error:
            news.send((RAISED, portable(error)))
            return
        news.send((LOADED, None))
        while (order := orders.recv()) is not None:
            if not isinstance(order, int):
                _carry_out(*order, pipeline, orders, news)


def _carry_out(number: int, work: Any, pipeline: Any, orders: Connection, news: Connection) -> None:
    def on_step(step: int, steps: int) -> None:
        while orders.poll():
            if orders.recv() == number:
                raise Cancelled()

    try:
        news.send((DONE, work(pipeline, lambda what: news.send((TOLD, what)), on_step)))
    except EOFError:  # of orders: the server is gone
        raise
    except BaseException as error:
        news.send((RAISED, portable(error)))


def _follow() -> None:
    """Ends this process with the server's, however that ends: nobody is to be left at work on a device or folder."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def portable(error: BaseException) -> Exception:
    """An error as it can be sent to another process: ours as it is, of others what a log may tell."""
    if isinstance(error, Unfaithful):  # which holds a set
        return refusal(error, "")
    if isinstance(error, CtxrepError):
        vars(error).pop("edits", None)
        try:
            return pickle.loads(pickle.dumps(error))  # type: ignore[no-any-return]
        except Exception:
            pass
    return Fault(fault(error))
