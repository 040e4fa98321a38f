"""The benchmark of ranks: what counts between two moments, medians and ratios, and a short run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any, cast

import pytest

from lethe.errors import InvalidSetting
from lethe.experiments.bench.ranks.cores import confined, cpu_seconds
from lethe.experiments.bench.ranks.run import RanksBench, bench_ranks
from lethe.experiments.bench.ranks.speeds import ALONE, APART, TOGETHER, RankSpeeds, Reached
from lethe.experiments.bench.ranks.watched import Watched, reached_between
from lethe.experiments.chaos.kill_loop import NoProgress
from lethe.experiments.chaos.service import Service
from tests.support.commands import Lethe


class Scripted:
    """A service that answers with one (samples, seconds) after another; the last one stays."""

    def __init__(self, *answers: tuple[int, float]) -> None:
        self._answers: Iterator[tuple[int, float]] = chain(answers, repeat(answers[-1]))
        self.pid = 0

    def ended(self) -> bool:
        return False

    def state(self) -> dict[str, Any] | None:
        samples, seconds = next(self._answers)
        return {"samples": {"learned": samples}, "seconds": seconds}


def watched(*answers: tuple[int, float], round_samples: int = 10) -> Watched:
    return Watched(cast("Service", Scripted(*answers)), round_samples)


def test_speed_is_of_the_time_after_the_warm_up() -> None:
    alone = watched((0, 0.0), (90, 5.0), (100, 6.0), (150, 6.5), (200, 7.0), (500, 9.0))
    assert reached_between([alone], warm=100, samples=100).samples_per_second == 100


def test_speeds_of_services_add_up_over_the_same_time() -> None:
    slow = watched((100, 1.0), (150, 2.0), (180, 2.5))
    fast = watched((0, 0.5), (100, 1.0), (200, 2.0))
    # the slow one is waited for until it is warm, and then the fast one ends first
    assert reached_between([slow, fast], warm=100, samples=100).samples_per_second == pytest.approx(
        30 / 0.5 + 100 / 1.0
    )


def test_no_moment_in_mid_round_counts() -> None:
    ranks = watched((105, 1.0), (110, 2.0), (205, 3.0), (215, 3.5), (220, 4.0))
    assert reached_between([ranks], warm=100, samples=90).samples_per_second == 110 / 2


def test_a_service_that_ends_is_an_error() -> None:
    service = Scripted((0, 0.0))
    service.ended = lambda: True  # type: ignore[method-assign]
    with pytest.raises(NoProgress, match="ended before"):
        reached_between([Watched(cast("Service", service), 1)], 1, 1)


def test_ratios_are_medians_of_the_turns() -> None:
    speeds = RankSpeeds(
        {
            ALONE: [Reached(100, 0.01), Reached(50, 0.01), Reached(100, 0.01)],
            APART: [Reached(200, 0.01), Reached(100, 0.01), Reached(200, 0.01)],
            TOGETHER: [Reached(190, 0.011), Reached(90, 0.012), Reached(196, 0.01)],
        }
    )
    assert speeds.samples_per_second(TOGETHER) == 190
    assert speeds.ratio(TOGETHER, ALONE) == 1.9
    assert speeds.quartiles(TOGETHER, ALONE) == pytest.approx((1.85, 1.93))
    assert speeds.ratio(TOGETHER, APART) == 0.95
    assert speeds.cpu_ratio(TOGETHER, ALONE) == pytest.approx(1.1)
    assert speeds.cpu_seconds(ALONE) == 0.01


def test_a_side_is_confined_to_its_cores_and_so_is_what_it_starts() -> None:
    before = os.sched_getaffinity(0)
    with confined(1) as held:
        assert held
        shown = subprocess.run(
            [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"],
            capture_output=True,
            check=True,
        )
        assert shown.stdout == b"1\n"
    assert os.sched_getaffinity(0) == before
    with confined(len(before) + 1) as held:
        assert not held
        assert os.sched_getaffinity(0) == before


def test_processor_time_counts_children_that_have_ended_and_that_run() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    script = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\n"
    script += "print(flush=True)\ninput()"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {script!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the grandchild's child has ended, the grandchild waits
        assert cpu_seconds(process.pid) >= 0.3
        process.kill()
    assert cpu_seconds(process.pid) == 0


def test_a_learner_that_ranks_cannot_learn_is_named_at_once() -> None:
    with pytest.raises(InvalidSetting, match="dp-finetune"):
        next(bench_ranks(RanksBench("dp-finetune")))


def test_the_command_refuses_it_in_one_line(lethe: Lethe) -> None:
    assert "several ranks cannot learn it" in lethe.refuses(
        "bench", "ranks", "--learner", "dp-finetune", "--json"
    )


@pytest.mark.long
@pytest.mark.needs("embedded")
@pytest.mark.parametrize("more", [(), ("--evaluations",)])
def test_every_side_learns_in_each_turn(more: tuple[str, ...]) -> None:
    words = ["bench", "ranks", "--learner", "ncm", "--batch-size", "32", "--turns", "2", "--json"]
    words += ["--warm-up", "128", "--samples", "640", *more]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "lethe", *words], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["learner"], found["ranks"], found["turns"]) == ("ncm", 2, 2)
    assert found["evaluations"] is bool(more)
    for side in (ALONE, APART, TOGETHER):
        assert 640 / (time.monotonic() - began) < found[side]
        assert 0 < found["cpu_seconds"][side] < 1
