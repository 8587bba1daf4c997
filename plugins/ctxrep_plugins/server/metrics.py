"""What Prometheus is told, in a registry of the server's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ctxrep_plugins.server.workers import Workers
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

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

    def workers(self, workers: Workers) -> None:
        """Has each worker looked at when somebody looks."""
        self._registry.register(_Looked(workers))

    def request(self, path: str | None, status: int | None) -> None:
        """path: of the route, not what the client wrote; None where there was none."""
        self._requests.labels(path or "other", str(status)).inc()

    def stage(self, name: str, seconds: float) -> None:
        self._stages.labels(name).observe(seconds)

    def made(self, verdicts: Mapping[str, int]) -> None:
        """How many edits were made, by what the checks say of them."""
        for verdict, count in verdicts.items():
            self._edits.labels(verdict).inc(count)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Looked(Collector):
    """The workers as they are when somebody looks."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        labels, name = ("worker", "device"), "ctxrep_edit_worker_"
        alive = GaugeMetricFamily(f"{name}alive", "Whether it has the model loaded.", labels=labels)
        memory = GaugeMetricFamily(f"{name}resident_memory_bytes", "Of its process.", labels=labels)
        restarts = CounterMetricFamily(f"{name}restarts", "How often its process was started anew.", labels=labels)
        busy = CounterMetricFamily(f"{name}busy_seconds", "That it made edits.", labels=labels)
        for one in self._workers.all:
            who = (str(one.number), one.device or "default")
            alive.add_metric(who, one.state in ("ready", "busy"))
            memory.add_metric(who, one.memory)
            restarts.add_metric(who, max(0, one.starts - 1))
            busy.add_metric(who, one.busy)
        yield from (alive, memory, restarts, busy)
