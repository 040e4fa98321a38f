"""Chaos: when it strikes, how a run is carried through it, and what tells two outcomes apart."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from service.chaos import victim as victims
from service.chaos.command import table
from service.chaos.conduct import Chaos, Verdict, document
from service.chaos.instants import LATEST, Instant, instants
from service.chaos.outcome import Outcome
from service.chaos.victim import Stuck, run_through, watch
from service.checkpoint import Checkpoint
from service.errors import InvalidFile, LetheError
from service.learners.base import JSON
from service.state_folder import StateFolder, checkpoint_files
from service.stream.source import Position
from tests.checkpoints import checkpoint
from tests.commands import Lethe

SEEDS = st.integers(0, 2**32)


@given(kills=st.integers(1, 60), total=st.integers(1, 10**6), seed=SEEDS)
def test_there_are_as_many_instants_as_kills_and_a_fifth_strike_while_it_starts(
    kills: int, total: int, seed: int
) -> None:
    plan = instants(kills, total, 2.0, seed)
    at_start = [instant for instant in plan if instant.samples is None]
    assert len(plan) == kills
    assert len(at_start) == kills // 5
    assert all(0 <= instant.seconds <= 2.0 for instant in at_start)


@given(kills=st.integers(1, 60), total=st.integers(1, 10**6), seed=SEEDS)
def test_instants_come_in_order_and_before_the_stream_ends(kills: int, total: int, seed: int) -> None:
    samples = [i.samples for i in instants(kills, total, 2.0, seed) if i.samples is not None]
    assert samples == sorted(samples)
    assert all(1 <= count <= max(1, LATEST * total) for count in samples)


def test_the_seed_decides() -> None:
    assert instants(25, 10_000, 2.0, 3) == instants(25, 10_000, 2.0, 3) != instants(25, 10_000, 2.0, 4)


class Learning:
    """A service in memory that learns ten samples whenever somebody looks."""

    def __init__(self, world: "World") -> None:
        self._world, self._learned = world, world.kept
        self._alive = True

    def kill(self) -> None:
        assert self._alive
        self._alive = False
        self._world.kills.append(self._learned)
        self._world.kept = self._learned // 50 * 50  # its last checkpoint

    def ended(self) -> bool:
        if self._world.broken:
            raise LetheError("it ended with status 2")
        return self._learned >= self._world.total

    def learned(self) -> int:
        if not self._world.stuck:
            self._learned = min(self._world.total, self._learned + 10)
        return self._learned


@dataclass
class World:
    total: int = 1000
    kept: int = 0
    stuck: bool = False
    broken: bool = False
    kills: list[int] = field(default_factory=list)
    starts: int = 0

    def start(self) -> Learning:
        self.starts += 1
        return Learning(self)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(victims, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(victims, "STUCK_SECONDS", 0.05)


def test_a_run_is_killed_at_every_instant_and_then_goes_to_its_end() -> None:
    world, told = World(), list[int]()
    restarts = run_through(
        world.start, [Instant(100, 0.0), Instant(None, 0.0), Instant(700, 0.0)], told.append
    )
    assert told == [1, 2, 3]
    assert (restarts, world.starts) == (3, 4)
    assert world.kills == [100, 100, 700]


def test_a_run_that_is_over_before_its_instant_is_killed_while_it_starts_again() -> None:
    class Over(Learning):
        """Goes on from a checkpoint behind which nothing is left, and needs two looks to find that out."""

        looks = 0

        def ended(self) -> bool:
            self.looks += 1
            return super().ended() and self.looks > 1

    world = World(total=500)

    def start() -> Over:
        world.starts += 1
        return Over(world)

    assert run_through(start, [Instant(600, 0.0)]) == 2
    assert len(world.kills) == 1


@pytest.mark.parametrize(("world", "error"), [(World(broken=True), LetheError), (World(stuck=True), Stuck)])
def test_a_service_that_ends_with_an_error_or_learns_nothing_is_no_victim(
    world: World, error: type[LetheError]
) -> None:
    with pytest.raises(error):
        run_through(world.start, [Instant(100, 0.0)])
    with pytest.raises(error):
        watch(world.start(), lambda _: False)


def kept(folder: Path, *changes: Callable[[Checkpoint], Checkpoint]) -> Outcome:
    """The outcome of a run whose last checkpoint was changed in these ways."""
    last = checkpoint(64)
    for change in changes:
        last = change(last)
    with StateFolder(folder, keep=3) as state:
        state.write(last)
    return Outcome.of(folder)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (lambda c: replace(c, learner=replace(c.learner, values={"step": 65})), "learner"),
        (lambda c: replace(c, history={"curve": [0.1, 0.3]}), "memory"),
        (lambda c: replace(c, counts={"learned": 64, "dead": {}, "received": 65}), "memory"),
        (lambda c: replace(c, position=Position({0: 64}, 1, "topic")), "memory"),
        (lambda c: replace(c, random={"cpu": torch.zeros(8, dtype=torch.uint8)}), "memory"),
        (lambda c: replace(c, drift={"alarms": {"error": {"mean": 0.5}}}), "memory"),
    ],
)
def test_an_outcome_differs_where_the_run_does(
    change: Callable[[Checkpoint], Checkpoint], differs: str, tmp_path: Path
) -> None:
    one, same, other = kept(tmp_path / "1"), kept(tmp_path / "2"), kept(tmp_path / "3", change)
    assert one == same
    assert [name for name in ("learner", "memory") if getattr(one, name) != getattr(other, name)] == [differs]


def test_how_long_a_run_took_is_no_part_of_its_outcome(tmp_path: Path) -> None:
    assert kept(tmp_path / "1") == kept(tmp_path / "2", lambda c: replace(c, timing={"seconds": 3.0}))


def test_an_outcome_says_what_was_lost_and_what_was_learned_twice(tmp_path: Path) -> None:
    def counted(learned: int, dead: int, passed: int) -> Outcome:
        counts: JSON = {"received": learned + dead, "learned": learned, "dead": {"size": dead}, "lost": 0}
        folder = tmp_path / f"{learned}-{dead}-{passed}"
        return kept(folder, lambda c: replace(c, counts=counts, position=Position({0: passed}, 0, None)))

    whole, short, double = counted(98, 2, 100), counted(90, 2, 100), counted(103, 2, 100)
    assert [o.lost(100) for o in (whole, short, double)] == [0, 8, 0]
    assert [o.twice for o in (whole, short, double)] == [0, 0, 5]


def test_a_run_that_left_nothing_has_no_outcome(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="holds no checkpoint"):
        Outcome.of(tmp_path)
    assert not checkpoint_files(tmp_path)


GOOD = Verdict(kills=25, restarts=26, samples=10_000, lost=0, twice=0, hashes_equal=True)


def test_the_document_has_the_shape_that_was_promised() -> None:
    given = document(Chaos(kills=25), {"finetune": GOOD, "ridge": replace(GOOD, restarts=25)})
    about = {"kills": 25, "restarts": 26, "samples": 10_000, "lost": 0, "twice": 0, "hashes_equal": True}
    assert given == {"kills": 25, "learners": {"finetune": about, "ridge": about | {"restarts": 25}}}


@pytest.mark.parametrize(
    ("bad", "good"),
    [({}, True), ({"lost": 1}, False), ({"twice": 1}, False), ({"hashes_equal": False}, False)],
)
def test_a_verdict_is_good_only_without_any_fault(bad: dict[str, Any], good: bool) -> None:
    assert replace(GOOD, **bad).good is good


def rows(verdicts: dict[str, Verdict]) -> list[list[str]]:
    """What the command prints for people: the cells of each line with a learner."""
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(table(verdicts))
    lines = [line for line in console.export_text().splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_the_table_says_the_same() -> None:
    assert rows({"finetune": GOOD, "ridge": replace(GOOD, lost=3, twice=2, hashes_equal=False)}) == [
        ["finetune", "25", "26", "10,000", "0", "0", "equal"],
        ["ridge", "25", "26", "10,000", "3", "2", "different"],
    ]


def test_a_learner_that_is_named_twice_is_refused(lethe: Lethe) -> None:
    said = lethe.refuses("chaos", "--learner", "ridge", "--learner", "ridge")
    assert said == "lethe: learner: one is named twice in ridge, ridge"


def test_a_learner_that_does_not_exist_is_refused(lethe: Lethe) -> None:
    assert "learner 'styx' does not exist" in lethe.refuses("chaos", "--learner", "styx")


def test_a_folder_that_is_not_empty_is_refused(lethe: Lethe, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert "is not empty" in lethe.refuses("chaos", "--report", str(tmp_path))


@pytest.mark.parametrize("words", [["--kills", "0"], ["--samples", "99"], ["--seed", "-1"], ["--styx"]])
def test_flags_that_make_no_sense_are_explained(lethe: Lethe, words: list[str]) -> None:
    done = lethe("chaos", *words)
    assert (done.code, done.stdout) == (2, "")
    assert words[0] in done.stderr
