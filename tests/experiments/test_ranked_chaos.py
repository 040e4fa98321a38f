"""Chaos with ranks: what a kill hits, what must have ended before the next start, and what is refused."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

import pytest

from lethe.experiments.chaos import ranked_service
from lethe.experiments.chaos.kill_loop import NoProgress
from lethe.experiments.chaos.ranked_service import RankedService, Target, rank_processes
from lethe.experiments.chaos.run import default_learners
from lethe.experiments.chaos.service import Service
from tests.support.commands import Lethe
from tests.support.waiting import until

LAUNCHER: Final = """
import os, subprocess, sys, time

def start(rank):
    command = [sys.executable, "-S", "-c", sys.argv[1]]
    return subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "RANK": str(rank)})

ranks = [start(0), start(1)]
while True:
    ranks = [start(rank) if process.poll() is not None else process for rank, process in enumerate(ranks)]
    time.sleep(0.01)
"""
OBEDIENT: Final = "import sys; sys.stdin.read()"
STUBBORN: Final = "import time; time.sleep(600)"


class Launched:
    """A process that keeps two others running, which end when their standard input does."""

    def __init__(self, rank: str = OBEDIENT) -> None:
        self.process = subprocess.Popen([sys.executable, "-S", "-c", LAUNCHER, rank])
        until(lambda: len(self.ranks) == 2, "both ranks run")
        self.started = dict(self.ranks)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ranks(self) -> Mapping[int, int]:
        with suppress(FileNotFoundError):
            return rank_processes(self.pid)
        return {}

    def has_other_ranks_than(self, ranks: Mapping[int, int]) -> None:
        until(lambda: len(self.ranks) == 2 and self.ranks != ranks, "a rank was started again")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ended(self) -> bool:
        return self.process.poll() is not None

    def learned(self) -> int:
        return 7


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}/fd/0").is_symlink()


@pytest.fixture
def started() -> Iterator[list[Launched]]:
    launched: list[Launched] = []
    yield launched
    for one in launched:
        left = [*one.ranks.values(), *one.started.values()]
        one.kill()
        for pid in filter(runs, left):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def ranked(started: list[Launched], rank: str = OBEDIENT) -> RankedService:
    def start() -> Service:
        started.append(Launched(rank))
        return cast("Service", started[-1])

    return RankedService(start, seed=3)


def test_each_target_is_hit_once_before_any_is_again(started: list[Launched]) -> None:
    service = ranked(started)
    for _ in range(2 * len(Target)):
        before = service.killed.copy()
        service.start()
        launched, ranks = started[-1], started[-1].ranks
        service.kill()
        (target,) = service.killed - before
        if target is Target.RANK:
            launched.has_other_ranks_than(ranks)
            assert service.start().learned() == 7
            assert started[-1] is launched, "it starts the rank by itself"
        else:
            assert launched.ended()
            assert not any(map(runs, ranks.values())), "the next start would find them"
    assert service.killed == dict.fromkeys(Target, 2)


def test_ranks_that_outlive_their_launcher_are_an_error(
    started: list[Launched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranked_service, "END_SECONDS", 0.2)
    service = ranked(started, STUBBORN)

    def kill_each() -> None:
        for _ in Target:
            service.start().kill()

    with pytest.raises(NoProgress, match="outlived"):
        kill_each()


def test_ranks_learn_what_they_can_by_default() -> None:
    assert default_learners(None) == ["finetune", "ridge"]
    assert "ridge" in default_learners(2)


def test_what_ranks_cannot_do_is_refused(lethe: Lethe) -> None:
    refused = lethe.refuses("chaos", "--ranks", "2", "--learner", "dp-finetune")
    assert "several ranks cannot learn it" in refused
    faults = ["--broker", "b:1", "--faults", "malformed,transactions,recreation"]
    assert "transactions, recreation cannot be combined with --ranks" in lethe.refuses(
        "chaos", "--ranks", "2", "--learner", "ridge", *faults
    )
