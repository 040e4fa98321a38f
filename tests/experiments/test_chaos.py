"""Chaos: the kill plan, the kill loop, and the comparison of outcomes."""

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

from lethe.checkpointing.checkpoint import Checkpoint
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.cli.chaos import table
from lethe.errors import InvalidFile, LetheError
from lethe.experiments.chaos import kill_loop
from lethe.experiments.chaos.faults import Fault, pieces
from lethe.experiments.chaos.kill_loop import NoProgress, run_with_kills, wait_for
from lethe.experiments.chaos.kill_plan import LATEST, KillTime, plan_kills
from lethe.experiments.chaos.outcome import Outcome
from lethe.experiments.chaos.run import Chaos, Recreated, Verdict, document
from lethe.learners.state import JSON
from lethe.stream.source import Position
from lethe_producers.records import Record
from tests.support.checkpoints import checkpoint
from tests.support.commands import Lethe

SEEDS = st.integers(0, 2**32)


@given(kills=st.integers(1, 60), total=st.integers(1, 10**6), seed=SEEDS)
def test_there_are_as_many_instants_as_kills_and_a_fifth_of_them_during_a_start(
    kills: int, total: int, seed: int
) -> None:
    plan = plan_kills(kills, total, 2.0, seed)
    at_start = [instant for instant in plan if instant.samples is None]
    assert len(plan) == kills
    assert len(at_start) == kills // 5
    assert all(0 <= instant.seconds <= 2.0 for instant in at_start)


@given(kills=st.integers(1, 60), total=st.integers(1, 10**6), seed=SEEDS)
def test_instants_come_in_order_and_before_the_stream_ends(kills: int, total: int, seed: int) -> None:
    samples = [i.samples for i in plan_kills(kills, total, 2.0, seed) if i.samples is not None]
    assert samples == sorted(samples)
    assert all(1 <= count <= max(1, LATEST * total) for count in samples)


def test_the_seed_determines_the_instants() -> None:
    assert plan_kills(25, 10_000, 2.0, 3) == plan_kills(25, 10_000, 2.0, 3) != plan_kills(25, 10_000, 2.0, 4)


class Learning:
    """A service in memory that learns ten samples on each query."""

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
    monkeypatch.setattr(kill_loop, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(kill_loop, "STUCK_SECONDS", 0.3)


def test_a_run_is_killed_at_every_instant_and_then_goes_to_its_end() -> None:
    world, reported = World(), list[int]()
    restarts = run_with_kills(
        world.start, [KillTime(100, 0.0), KillTime(None, 0.0), KillTime(700, 0.0)], reported.append
    )
    assert reported == [1, 2, 3]
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

    assert run_with_kills(start, [KillTime(600, 0.0)]) == 2
    assert len(world.kills) == 1


@pytest.mark.parametrize(
    ("world", "error"), [(World(broken=True), LetheError), (World(stuck=True), NoProgress)]
)
def test_a_service_that_ends_with_an_error_or_learns_nothing_stops_the_loop(
    world: World, error: type[LetheError]
) -> None:
    with pytest.raises(error):
        run_with_kills(world.start, [KillTime(100, 0.0)])
    with pytest.raises(error):
        wait_for(world.start(), lambda _: False)


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
def test_outcomes_of_different_runs_differ(
    change: Callable[[Checkpoint], Checkpoint], differs: str, tmp_path: Path
) -> None:
    one, same, other = kept(tmp_path / "1"), kept(tmp_path / "2"), kept(tmp_path / "3", change)
    assert one == same
    assert [name for name in ("learner", "memory") if getattr(one, name) != getattr(other, name)] == [differs]


def test_the_duration_of_a_run_is_not_part_of_its_outcome(tmp_path: Path) -> None:
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
    with pytest.raises(InvalidFile, match="contains no checkpoint"):
        Outcome.of(tmp_path)
    assert not checkpoint_files(tmp_path)


GOOD = Verdict(kills=25, restarts=26, samples=10_000, lost=0, twice=0, hashes_equal=True)


def test_the_document_has_the_documented_shape() -> None:
    given = document(Chaos(kills=25), {"finetune": GOOD, "ridge": replace(GOOD, restarts=25)})
    about: dict[str, Any] = {
        "kills": 25,
        "restarts": 26,
        "samples": 10_000,
        "lost": 0,
        "twice": 0,
        "hashes_equal": True,
    }
    about |= {"recreated": None, "killed": None}
    learners = {"finetune": about, "ridge": about | {"restarts": 25}}
    assert given == {"kills": 25, "ranks": None, "faults": [], "learners": learners}


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


RECREATED = Recreated(detected=True, lost=0, twice=0, hash_equal=True)


@pytest.mark.parametrize(
    "bad", [{}, {"detected": False}, {"lost": 1}, {"twice": 1}, {"hash_equal": False}], ids=str
)
def test_a_verdict_on_a_topic_created_anew_counts_too(bad: dict[str, Any]) -> None:
    assert replace(GOOD, recreated=replace(RECREATED, **bad)).good is not bool(bad)


def test_the_table_shows_a_recreated_topic() -> None:
    lost = replace(RECREATED, detected=False, lost=4)
    found = rows({"ridge": replace(GOOD, recreated=RECREATED), "ncm": replace(GOOD, recreated=lost)})
    assert found[0][-1] == "rejected, then learned completely"
    assert found[1][-1].startswith("not noticed, lost 4")


@given(seed=SEEDS, count=st.integers(1, 2000))
def test_faults_are_put_between_the_records_and_change_none(seed: int, count: int) -> None:
    records = [Record(index, b"%d" % index, b"", []) for index in range(count)]
    made = list(pieces(iter(records), tuple(Fault), seed))
    assert not made[0].committed
    assert any(record.value.startswith(b"no sample") for record in made[1].records if record.value)
    kept = [record for piece in made if piece.committed for record in piece.records if record.key]
    assert kept == records


def test_faults_are_named_one_by_one_or_all() -> None:
    assert Fault.of([], None) == ()
    assert Fault.of(["malformed"], None) == (Fault.MALFORMED,)
    assert Fault.of(["member,malformed", "recreation"], "b:1") == (
        Fault.MALFORMED,
        Fault.MEMBER,
        Fault.RECREATION,
    )
    assert Fault.of(["all"], "b:1") == tuple(Fault)


def test_a_fault_that_does_not_exist_or_needs_a_cluster_is_refused(lethe: Lethe) -> None:
    assert "--faults: 'fire' is not one of malformed" in lethe.refuses("chaos", "--faults", "fire")
    assert "transactions, member, recreation need a Kafka cluster" in lethe.refuses(
        "chaos", "--faults", "all"
    )


def test_a_learner_that_is_named_twice_is_refused(lethe: Lethe) -> None:
    said = lethe.refuses("chaos", "--learner", "ridge", "--learner", "ridge")
    assert said == "lethe: --learner: each learner can be given once, not ridge, ridge"


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
