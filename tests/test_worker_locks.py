"""A test that runs alone has no other beside it, and is not overtaken by later ones."""

import threading
from pathlib import Path

import pytest

from tests.support.worker_locks import worker_slot

NEVER = 0.3
"""Seconds without which it counts as sure that something does not happen."""
SOON = 20.0


class Worker:
    """Takes one turn, and stays in it until leave() is called."""

    def __init__(self, folder: Path, alone: bool) -> None:
        self.inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._take, args=(folder, alone), daemon=True)
        self._thread.start()

    def _take(self, folder: Path, alone: bool) -> None:
        with worker_slot(alone, folder / "queue", folder / "room"):
            self.inside.set()
            self._leave.wait(SOON)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(SOON)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "queue").mkdir()
    (tmp_path / "room").mkdir()
    return tmp_path


def test_tests_of_two_workers_run_side_by_side(folder: Path) -> None:
    one, two = Worker(folder, alone=False), Worker(folder, alone=False)
    assert one.inside.wait(SOON)
    assert two.inside.wait(SOON)
    one.leave()
    two.leave()


def test_a_test_marked_alone_runs_alone_and_before_later_ones(folder: Path) -> None:
    first = Worker(folder, alone=False)
    assert first.inside.wait(SOON)
    alone = Worker(folder, alone=True)
    assert not alone.inside.wait(NEVER), "another test is running"
    later = Worker(folder, alone=False)
    assert not later.inside.wait(NEVER), "it must not overtake the waiting test"
    first.leave()
    assert alone.inside.wait(SOON)
    assert not later.inside.wait(NEVER)
    alone.leave()
    assert later.inside.wait(SOON)
    later.leave()
