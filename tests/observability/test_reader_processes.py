"""The metrics of the processes that read: what they use is added up."""

import os
import subprocess
import sys
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from lethe.observability.reader_processes import ReaderProcesses

RESIDENT = "lethe_feeder_process_resident_memory_bytes"
STARTED = "lethe_feeder_process_start_time_seconds"


def exported(pids: Sequence[int], name: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(ReaderProcesses(lambda: pids))
    return registry.get_sample_value(name)


def test_memory_is_that_of_all_and_the_start_that_of_the_first() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        try:
            ours, theirs = exported([os.getpid()], RESIDENT), exported([other.pid], RESIDENT)
            both = exported([os.getpid(), other.pid], RESIDENT)
            assert ours is not None
            assert theirs is not None
            assert both is not None
            assert both > max(ours, theirs)
            assert exported([os.getpid(), other.pid], STARTED) == exported([os.getpid()], STARTED)
        finally:
            other.kill()


def test_what_has_ended_or_not_begun_has_no_metrics() -> None:
    assert exported([], RESIDENT) is None
    assert exported([2**22 + 1], RESIDENT) is None
    assert exported([os.getpid(), 2**22 + 1], RESIDENT) is not None
