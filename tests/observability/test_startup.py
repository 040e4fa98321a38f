"""A start is emitted once, at the first learned batch, with its parts."""

import subprocess
import sys
import time

from lethe.events import BatchLearned, Event, LearningStarted, LoopTurned
from lethe.observability.startup import StartupTimer, age
from tests.support.waiting import until

BATCH = BatchLearned(64, 64, 60, 0.5, 0.01, 0.1, 0.2, 0.9, 0.9)


def test_a_process_is_as_old_as_it_runs() -> None:
    began = time.monotonic()
    script = "import time; time.sleep(0.5); from lethe.observability.startup import age; print(age())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert 0.5 <= float(done.stdout) <= time.monotonic() - began + 0.02  # ticks of a hundredth


def test_the_first_learned_batch_ends_the_start_and_no_other() -> None:
    events: list[Event] = []
    imported = age()
    startup = StartupTimer(events.append, imported)
    startup(LoopTurned(0))
    assert not events
    until(lambda: age() > imported, "time passes")
    for _ in range(2):
        startup(BATCH)
    (began,) = events
    assert isinstance(began, LearningStarted)
    assert imported == began.imports_seconds < began.seconds <= age()
