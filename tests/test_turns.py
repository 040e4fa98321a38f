"""Turns: a test that wants the machine alone has it, and nobody who comes later is before it."""

import threading
from pathlib import Path

import pytest

from tests.turns import turn

NEVER = 0.3
"""Seconds without which it counts as sure that something does not happen."""
SOON = 20.0


class Worker:
    """Takes one turn, and stays in it until it is told to leave."""

    def __init__(self, folder: Path, alone: bool) -> None:
        self.inside, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._take, args=(folder, alone), daemon=True)
        self._thread.start()

    def _take(self, folder: Path, alone: bool) -> None:
        with turn(alone, folder / "queue", folder / "room"):
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


def test_a_test_that_wants_to_be_alone_is_and_comes_before_later_ones(folder: Path) -> None:
    first = Worker(folder, alone=False)
    assert first.inside.wait(SOON)
    alone = Worker(folder, alone=True)
    assert not alone.inside.wait(NEVER), "somebody is there"
    later = Worker(folder, alone=False)
    assert not later.inside.wait(NEVER), "it may not pass the one that waits"
    first.leave()
    assert alone.inside.wait(SOON)
    assert not later.inside.wait(NEVER)
    alone.leave()
    assert later.inside.wait(SOON)
    later.leave()
