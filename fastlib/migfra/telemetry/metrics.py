"""OpenMetrics of a daemon, by HTTP (extra `metrics`)."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from fastlib.extras import needs_extra
from fastlib.migfra.config.sections import MetricsSection

from .counters import BOUNDS

if TYPE_CHECKING:
    from fastlib.migfra.daemon import Daemon

with needs_extra("the export of metrics", "prometheus_client"):
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector


class DaemonCollector(Collector):
    """Reads the numbers of a daemon when they are asked for; nothing is counted twice."""

    def __init__(self, daemon: "Daemon") -> None:
        self._daemon = daemon

    def collect(self) -> Iterable[Metric]:
        """The numbers as they are now."""
        yield from self._counters()
        yield from self._gauges()
        yield self._durations()

    def _counters(self) -> Iterable[Metric]:
        counters = self._daemon.counters
        tasks = CounterMetricFamily(
            "migfra_tasks", "Tasks that have ended.", labels=("task", "outcome")
        )
        for key, count in tuple(counters.ended.items()):
            tasks.add_metric(key, count)
        yield tasks
        messages = CounterMetricFamily(
            "migfra_messages", "Messages that came, by what became of them.", labels=("kind",)
        )
        for kind, count in tuple(counters.messages.items()):
            messages.add_metric((kind,), count)
        yield messages
        yield CounterMetricFamily(
            "migfra_retries", "Tries after the first.", value=counters.retries
        )
        yield CounterMetricFamily(
            "migfra_migrated_bytes",
            "Memory that has moved to other hosts.",
            value=counters.migrated_bytes,
        )

    def _gauges(self) -> Iterable[Metric]:
        daemon = self._daemon
        numbers = {
            "migfra_containers_at_work": ("Containers at work.", daemon.dispatcher.at_work),
            "migfra_containers_waiting": ("Containers that wait.", daemon.dispatcher.queued),
            "migfra_answers_unconfirmed": (
                "Answers that the broker does not have yet.",
                daemon.publisher.unconfirmed,
            ),
            "migfra_journal_bytes": ("Size of the journal.", daemon.journal.size()),
            "migfra_journal_writable": (
                "0 while the journal cannot be written.",
                float(daemon.journal.last_error is None),
            ),
            "migfra_broker_connected": (
                "0 while there is no connection to the broker.",
                float(daemon.communicator.is_connected),
            ),
            "migfra_start_time_seconds": (
                "When the daemon began, after the beginning of 1970 (UTC).",
                daemon.started,
            ),
        }
        for name, (meaning, value) in numbers.items():
            yield GaugeMetricFamily(name, meaning, value=value)

    def _durations(self) -> Metric:
        family = HistogramMetricFamily(
            "migfra_task_duration_seconds", "How long tasks took.", labels=("task",)
        )
        for title, durations in tuple(self._daemon.counters.durations.items()):
            buckets, count = [], 0
            for bound, number in zip((*BOUNDS, float("inf")), durations.counts, strict=True):
                count += number
                buckets.append(("+Inf" if bound == float("inf") else str(bound), count))
            family.add_metric((title,), buckets, sum_value=durations.total)
        return family


def serve(daemon: "Daemon", options: MetricsSection) -> Callable[[], None]:
    """Serve a daemon's metrics; the function that is returned ends it. Raises OSError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(DaemonCollector(daemon))
    try:
        server, thread = start_http_server(options.port, options.address, registry)
    except OSError as error:
        where = f"{options.address} port {options.port}"
        raise OSError(f"metrics cannot be served at {where}: {error.strerror or error}") from error

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
