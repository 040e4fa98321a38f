"""The schedule of checkpoints, and failed writes."""

import errno
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lethe.checkpointing.checkpointer import Checkpointer
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.events import CheckpointFailed, CheckpointWritten, Event
from lethe.settings import CheckpointSettings
from lethe.stream.source import Position
from tests.support.checkpoints import checkpoint, refuse


class Bench:
    """A checkpointer with a clock that the test advances, and a disk that fails on demand."""

    def __init__(self, folder: Path, samples: int = 0, **settings: float | int) -> None:
        self.now = 100.0
        self.events: list[Event] = []
        self.published: list[Position] = []
        self.steps: list[str] = []
        self.broken_at: str | None = None
        self.held_at: str | None = None
        self.go_on = threading.Event()
        self.folder = StateFolder(folder, keep=3)
        self.checkpointer = Checkpointer(
            self.folder,
            CheckpointSettings.model_validate(settings),
            self.events.append,
            lambda checkpoint: self.published.append(checkpoint.position),
            self.at,
            samples,
            lambda: self.now,
        )

    def at(self, step: str) -> None:
        self.steps.append(step)
        if step == self.broken_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if step == self.held_at:
            assert self.go_on.wait(10)

    def newest(self) -> int:
        found = self.folder.load_newest(refuse)
        return 0 if found is None else found.samples


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, every_seconds=30.0, every_samples=1000)
    yield bench
    bench.checkpointer.close()
    bench.folder.close()


def test_a_checkpoint_is_due_after_the_given_seconds(bench: Bench) -> None:
    bench.now += 29.9
    assert not bench.checkpointer.due(64)
    bench.now += 0.2
    assert bench.checkpointer.due(64)
    bench.checkpointer.take(checkpoint(64))
    assert not bench.checkpointer.due(128)


def test_a_checkpoint_is_due_at_each_multiple_of_the_given_samples(bench: Bench) -> None:
    assert [samples for samples in range(0, 1100, 64) if bench.checkpointer.due(samples)] == [1024, 1088]
    bench.checkpointer.take(checkpoint(1024))
    assert not bench.checkpointer.due(1984)
    assert bench.checkpointer.due(2048)


def test_after_a_restart_the_samples_before_it_count(tmp_path: Path) -> None:
    bench = Bench(tmp_path, samples=1984, every_samples=1000)
    assert not bench.checkpointer.due(1984)
    assert bench.checkpointer.due(2048)
    bench.checkpointer.close()


def test_positions_are_committed_only_once_the_checkpoint_is_on_the_disk(bench: Bench) -> None:
    bench.held_at = "folder forced"
    bench.checkpointer.take(checkpoint(64))
    bench.checkpointer.poll()
    assert not bench.published
    bench.go_on.set()
    bench.checkpointer.wait()
    assert bench.published == [Position({0: 64}, 0, "topic")]
    assert bench.newest() == 64
    assert bench.steps == ["taken", "written", "forced", "renamed", "folder forced", "committed"]


def test_learning_does_not_wait_for_the_disk(bench: Bench) -> None:
    bench.held_at = "written"
    bench.checkpointer.take(checkpoint(64))  # returns while the writer is held
    bench.checkpointer.poll()
    assert not bench.events
    bench.go_on.set()
    bench.now += 2
    bench.checkpointer.wait()
    (written,) = bench.events
    assert isinstance(written, CheckpointWritten)
    assert (written.samples, written.seconds) == (64, 2)
    assert written.size_bytes == checkpoint_files(bench.folder.folder)[0].stat().st_size


def test_a_failure_is_reported_and_the_previous_checkpoint_stays(bench: Bench) -> None:
    bench.checkpointer.take(checkpoint(64))
    bench.checkpointer.wait()
    bench.broken_at = "written"
    bench.checkpointer.take(checkpoint(128))
    bench.checkpointer.wait()
    (failed,) = [event for event in bench.events if isinstance(event, CheckpointFailed)]
    assert failed.detail == f"{bench.folder.folder}: No space left on device"
    assert bench.newest() == 64
    assert bench.published == [Position({0: 64}, 0, "topic")]


def test_after_a_failure_the_next_attempt_is_soon_and_then_as_scheduled(bench: Bench) -> None:
    bench.broken_at = "forced"
    bench.checkpointer.take(checkpoint(64))
    bench.checkpointer.wait()
    bench.now += 4.9
    assert not bench.checkpointer.due(128)
    bench.now += 0.2
    assert bench.checkpointer.due(128)
    bench.broken_at = None
    bench.checkpointer.take(checkpoint(128))
    bench.checkpointer.wait()
    assert bench.newest() == 128
    bench.now += 5.1
    assert not bench.checkpointer.due(192)


def test_two_checkpoints_are_never_written_at_once(bench: Bench) -> None:
    for samples in (64, 128):
        bench.checkpointer.take(checkpoint(samples))
    bench.checkpointer.close()
    assert [event.samples for event in bench.events if isinstance(event, CheckpointWritten)] == [64, 128]
    assert bench.steps.index("committed") < len(bench.steps) // 2


def test_an_unreadable_newest_checkpoint_does_not_replace_others(bench: Bench) -> None:
    for samples in (1000, 2000):
        bench.checkpointer.take(checkpoint(samples))
    bench.checkpointer.wait()
    good, newest = checkpoint_files(bench.folder.folder)
    newest.write_bytes(b"torn")
    before = good.read_bytes()
    assert not bench.checkpointer.replace_older()
    assert isinstance(bench.events[-1], CheckpointFailed)
    assert str(newest) in bench.events[-1].detail
    assert good.read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no niceness of their own")
def test_writing_has_a_lower_priority_than_learning(tmp_path: Path) -> None:
    niceness: dict[str, int] = {}

    def note(step: str) -> None:
        niceness[step] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    with StateFolder(tmp_path, keep=3) as folder:
        writing = Checkpointer(folder, CheckpointSettings(), lambda _: None, lambda _: None, note)
        writing.take(checkpoint(64))
        writing.close()
    assert niceness["written"] == min(19, niceness["taken"] + 10)
