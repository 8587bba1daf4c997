"""What Prometheus is told, in a registry of the server's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from ctxrep_edit import EditSet

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)


class Metrics:
    """Counts, and says what there is."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("ctxrep_edit_requests", "Requests.", ["path", "status"], registry=self._registry)
        self._edits = Counter("ctxrep_edit_edits", "Edits that were made.", ["verdict"], registry=self._registry)
        self._stages = Histogram(
            "ctxrep_edit_stage_seconds", "Seconds that a set waits for the worker, and that the worker takes for it.",
            ["stage"], buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        ProcessCollector(registry=self._registry)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A number that is asked for when somebody looks."""
        Gauge(f"ctxrep_edit_{name}", about, registry=self._registry).set_function(value)

    def request(self, path: str | None, status: int | None) -> None:
        """path: of the route, not what the client wrote; None where there was none."""
        self._requests.labels(path or "other", str(status)).inc()

    def stage(self, name: str, seconds: float) -> None:
        self._stages.labels(name).observe(seconds)

    def made(self, edits: EditSet) -> None:
        for edit in (*edits, *edits.dropped):
            verdict = ("faithful" if edit.faithful else "unfaithful") if edit.verdicts else "not judged"
            self._edits.labels(verdict).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
