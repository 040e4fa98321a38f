"""Metrics of the processes that read the stream, together."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import Metric, ProcessCollector
from prometheus_client.registry import Collector

__all__ = ["ReaderProcesses"]

NAMESPACE: Final = "lethe_feeder"
ADDED: Final = ("virtual_memory_bytes", "resident_memory_bytes", "cpu_seconds", "open_fds")
"""What is the sum over the processes; of anything else, the first one's."""


class ReaderProcesses(Collector):
    """Exports the processes of ``pids``: the reader first, then those that decode for it."""

    def __init__(self, pids: Callable[[], Sequence[int]]) -> None:
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of a process; none of one that has ended."""
        first, *others = [_metrics_of(pid) for pid in self._pids() or [0]]
        for name, metric in first.items():
            if name.endswith(ADDED):
                same = [other[name] for other in others if name in other]
                metric.samples = [
                    sample._replace(value=sample.value + sum(other.samples[place].value for other in same))
                    for place, sample in enumerate(metric.samples)
                ]
            yield metric


def _metrics_of(pid: int) -> dict[str, Metric]:
    return {m.name: m for m in ProcessCollector(NAMESPACE, lambda: pid, registry=None).collect()}
