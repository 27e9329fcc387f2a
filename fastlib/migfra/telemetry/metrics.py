"""OpenMetrics of a daemon, by HTTP (extra `metrics`)."""

from collections.abc import Callable, Iterable, Sequence
from logging import getLogger

from fastlib.extras import needs_extra
from fastlib.migfra.config.sections import MetricsSection
from fastlib.migfra.failures import describe

from .counters import BOUNDS, Counters, Gauge
from .metrics_server import serve_app

with needs_extra("the export of metrics", "prometheus_client"):
    from prometheus_client import CollectorRegistry, make_wsgi_app
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

log = getLogger("fastlib.migfra")


class DaemonCollector(Collector):
    """Reads the numbers of a daemon at each request; it keeps no counters of its own."""

    def __init__(self, counters: Counters, gauges: Sequence[Gauge]) -> None:
        self._counters = counters
        self._gauges = gauges
        self._failed: set[str] = set()

    def collect(self) -> Iterable[Metric]:
        """Yield the numbers as they are now."""
        yield from self._counted()
        for gauge in self._gauges:
            value = self._read(gauge)
            if value is not None:
                family = CounterMetricFamily if gauge.only_grows else GaugeMetricFamily
                yield family(gauge.name, gauge.meaning, value=value)
        yield self._durations()

    def _read(self, gauge: Gauge) -> float | None:
        try:
            return gauge.read()
        except Exception as error:  # all other numbers are served
            if gauge.name not in self._failed:
                self._failed.add(gauge.name)
                log.error("the metric %s cannot be read: %s", gauge.name, describe(error))
            return None

    def _counted(self) -> Iterable[Metric]:
        counters = self._counters
        tasks = CounterMetricFamily(
            "migfra_tasks", "Tasks that ended, by task and outcome.", labels=("task", "outcome")
        )
        for key, count in tuple(counters.ended.items()):
            tasks.add_metric(key, count)
        yield tasks
        messages = CounterMetricFamily(
            "migfra_messages",
            "Received messages, by what the daemon did with them.",
            labels=("kind",),
        )
        for kind, count in tuple(counters.messages.items()):
            messages.add_metric((kind,), count)
        yield messages
        yield CounterMetricFamily(
            "migfra_retries", "Retries of tasks, without the first try.", value=counters.retries
        )
        yield CounterMetricFamily(
            "migfra_migrated_bytes",
            "Guest memory that migrations have sent to other hosts.",
            value=counters.migrated_bytes,
        )

    def _durations(self) -> Metric:
        family = HistogramMetricFamily(
            "migfra_task_duration_seconds",
            "Run time of tasks in seconds, without the time in which they waited.",
            labels=("task",),
        )
        for title, durations in tuple(self._counters.durations.items()):
            buckets, count = [], 0
            for bound, number in zip((*BOUNDS, float("inf")), durations.counts, strict=True):
                count += number
                buckets.append(("+Inf" if bound == float("inf") else str(bound), count))
            family.add_metric((title,), buckets, sum_value=durations.total)
        return family


def serve(
    counters: Counters, gauges: Sequence[Gauge], options: MetricsSection
) -> Callable[[], None]:
    """Serve a daemon's metrics; the returned function ends the server. Raises OSError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(DaemonCollector(counters, gauges))
    return serve_app(make_wsgi_app(registry), options.address, options.port)
