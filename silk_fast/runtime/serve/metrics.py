"""What a server counts, as Prometheus reads it."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from silk_fast.runtime.engine import Stats


class Metrics:
    """Counters of requests, and the engine's own.

    Args:
        stats: of the engine, now.
        n_open: requests and streams that are being answered, now.
    """

    def __init__(self, stats: Callable[[], Stats], n_open: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "silk_requests", "Requests answered, by status; of streams, the code they were closed with.",
            ["route", "status"], registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "silk_request_seconds", "From a request's head to the end of its answer.", ["route"], registry=self.registry
        )
        self.audio = Counter(
            "silk_audio_seconds", "Seconds of sound encoded and decoded.", ["direction"], registry=self.registry
        )
        self.registry.register(_OfEngine(stats, n_open))

    def text(self) -> bytes:
        """Write all of them in Prometheus' text format."""
        return generate_latest(self.registry)


class _OfEngine(Collector):
    def __init__(self, stats: Callable[[], Stats], n_open: Callable[[], int]) -> None:
        self._stats, self._n_open = stats, n_open

    def collect(self) -> Iterable[Metric]:
        stats = self._stats()
        yield GaugeMetricFamily("silk_open", "Requests and streams being answered.", self._n_open())
        yield GaugeMetricFamily("silk_slots", "Slots of the engine.", stats.n_slots)
        yield GaugeMetricFamily("silk_slots_busy", "Slots that are taken.", stats.n_busy)
        yield GaugeMetricFamily("silk_queue", "Items that wait for a slot.", stats.n_queued)
        yield CounterMetricFamily("silk_steps", "Steps of the engine.", stats.n_steps)
        for name, count in (("done", stats.n_done), ("cancelled", stats.n_cancelled), ("failed", stats.n_failed)):
            yield CounterMetricFamily(f"silk_items_{name}", f"Items and streams {name}.", count)
