"""Several ranks learn one model from one topic: killed, stopped and continued by other numbers of ranks."""

import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lethe.errors import RankLost
from lethe.evaluation.history import History
from lethe.experiments.chaos.outcome import Outcome
from lethe.probeset import ProbeSet, save_probe
from lethe.settings import Settings
from lethe.wire import Sample, encode
from tests.support.checkpoints import newest
from tests.support.faults.checkpoint_steps import KillAt
from tests.support.faults.ranks import has_learned, sums, team
from tests.support.faults.services import EVERY, FAILED, Stage, running
from tests.support.faults.topics import Fill, Outgoing, images, records
from tests.support.ledgers import passed_audit
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

PARTITIONS = 6
FIRST, SECOND = records("a", 780, 1), records("b", 823, 2)
TOTAL = len(FIRST) + len(SECOND)
MORE = (("ridge", 3), ("slda", 2), ("experts", 3))


@pytest.fixture(scope="module")
def stage(fill: Fill) -> Stage:
    return fill("ranks", [*FIRST, *SECOND], PARTITIONS)


@pytest.fixture(scope="module")
def alone(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The SHA-256 of a learner's sums after one service has learned the topic."""

    @cache
    def learn(learner: str) -> str:
        folder = tmp_path_factory.mktemp(f"alone-{learner}") / "state"
        with running(ranked(stage, learner, folder)) as service:
            assert service.status() == 0, service.log
        return sums(folder)

    return learn


def ranked(stage: Stage, learner: str, folder: Path, **more: Any) -> Settings:
    more.setdefault("batch", {"size": 32})
    more.setdefault("stream", {})["stop_after"] = TOTAL
    return stage.settings(learner, folder, **more)


def learn_all(settings: Settings, ranks: int, folder: Path) -> None:
    with team(settings, ranks, folder) as started:
        assert started.statuses() == [0] * ranks, started.log


def learn_and_signal(
    settings: Settings, folder: Path, starts: Sequence[tuple[int, int, signal.Signals, int]]
) -> Iterator[Sequence[int]]:
    """Start ranks one time after the other, and send one of them a signal; yield their exit statuses.

    Each of ``starts`` is a number of ranks, which of them gets which signal, and after how many samples.
    """
    assert settings.checkpoint.folder is not None
    for ranks, rank, number, samples in starts:
        with team(settings, ranks, folder / f"{ranks}-ranks-{samples}") as started:
            has_learned(started, settings.checkpoint.folder, samples)
            started.send(rank, number)
            yield started.statuses()


def read_at(folder: Path) -> Any:
    """What the probes read at the start and at the end of each segment."""
    return cast("dict[str, Any]", newest(folder).history)["readings"]


def assert_accounted_for(folder: Path, total: int = TOTAL) -> None:
    """Every offset is in one receipt of one ledger, and nothing is lost or counted twice."""
    found = Outcome.of(folder)
    assert (found.lost(total), found.twice, found.passed) == (0, 0, total)
    passed_audit(folder)


@pytest.mark.parametrize(
    ("learner", "ranks"),
    [("ridge", 2), *(pytest.param(*more, marks=pytest.mark.long) for more in MORE)],
)
def test_ranks_learn_what_one_service_does(
    learner: str, ranks: int, stage: Stage, alone: Callable[[str], str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    learn_all(ranked(stage, learner, state), ranks, tmp_path / "logs")
    assert sums(state) == alone(learner)
    assert_accounted_for(state)
    history = History.from_json(newest(state).history)
    assert history.segments == ["a", "b"]
    assert history.evaluated_at == TOTAL, "the whole is evaluated at the end"


@pytest.mark.parametrize("most", [2, pytest.param(3, marks=pytest.mark.long)])
def test_evaluations_that_ranks_divide_have_the_results_of_one_service(
    most: int, stage: Stage, tmp_path: Path
) -> None:
    x_NCHW, y_N = images(1130, 3)  # three chunks a probe, so that each rank gets some of both
    for order, name in enumerate("ab"):
        save_probe(
            ProbeSet(name, x_NCHW, (y_N + order) % 10, "made up", "none needed"), tmp_path / "p", order
        )
    measured = []
    for ranks in range(1, most + 1):
        state = tmp_path / f"{ranks}" / "state"
        evaluation = {"probes": tmp_path / "p", "every": 120, "subset": 600}
        settings = ranked(stage, "ridge", state, evaluation=evaluation, batch={"size": 60 // ranks})
        learn_all(settings, ranks, tmp_path / f"{ranks}" / "logs")
        history = cast("dict[str, Any]", newest(state).history)
        read = ("samples", "accuracy", "on_subset", "ece")
        curve = [[point[name] for name in read] for point in history["curve"]["kept"]]
        measured.append((curve, history["R"], history["readings"], history["by_class"]))
    assert len(measured[0][0]) >= TOTAL // 120
    assert all(one == measured[0] for one in measured)


def test_an_evaluation_that_is_due_at_a_restart_is_of_what_was_learned(stage: Stage, tmp_path: Path) -> None:
    given = {"stop_after": 4 * EVERY}
    state, copied = tmp_path / "alone" / "state", tmp_path / "ranks" / "state"
    alone, together = (stage.settings("finetune", folder, stream=given) for folder in (state, copied))
    with running(alone, KillAt("renamed", left=5)) as service:  # before the evaluation at the end is saved
        assert service.status() == -signal.SIGKILL
    before = read_at(state)
    shutil.copytree(state, copied)
    with running(alone) as service:
        assert service.status() == 0, service.log
    learn_all(together, 2, tmp_path / "logs")
    assert read_at(copied) == read_at(state) != before


def test_ranks_that_average_gradients_learn_as_one_service_with_their_batches_in_one(
    stage: Stage, tmp_path: Path
) -> None:
    state, other = tmp_path / "state", tmp_path / "alone" / "state"
    with running(ranked(stage, "finetune", other, batch={"size": 32})) as service:
        learn_all(ranked(stage, "finetune", state, batch={"size": 16}), 2, tmp_path / "logs")
        assert service.status() == 0, service.log
    assert_accounted_for(state)
    ours, theirs = newest(state).learner, newest(other).learner
    assert ours.values == theirs.values
    for name, tensor in ours.tensors.items():
        # not entry by entry: where a gradient is nearly 0, Adam turns its rounding into a whole step
        assert (tensor - theirs.tensors[name]).norm() <= 0.1 * theirs.tensors[name].norm(), name


def test_a_boundary_is_detected_and_all_ranks_are_notified(fill: Fill, topic: str, tmp_path: Path) -> None:
    dark, bright = (images(count, seed) for count, seed in ((2400, 1), (700, 2)))
    pictures = [*zip(*dark, strict=True), *((255 - x, y) for x, y in zip(*bright, strict=True))]
    stage = fill(topic, [encode(Sample(x, int(y))) for x, y in pictures], PARTITIONS)
    state = tmp_path / "state"
    settings = stage.settings("lwf", state, batch={"size": 16})
    learn_all(settings, 3, tmp_path / "logs")  # it ends with an error if their weights differ
    last = newest(state)
    found = History.from_json(last.history).boundaries
    assert [boundary.signal for boundary in found] == ["features"]
    assert 2400 <= found[0].samples <= 2400 + 3 * 64
    assert last.learner.values["taught"]


@pytest.mark.parametrize(
    ("learner", "rounds"),
    [("ridge", 1), *(pytest.param("finetune", rounds, marks=pytest.mark.long) for rounds in (1, 3))],
)
def test_ranks_that_are_killed_end_as_if_undisturbed(
    learner: str, rounds: int, fill: Fill, topic: str, tmp_path: Path
) -> None:
    stage = fill(topic, FIRST, PARTITIONS)
    state = tmp_path / "state"
    apart = {"average_every": rounds}
    settings = ranked(stage, learner, state, run=apart)
    killed = ((2, 1, signal.SIGKILL, 256), (2, 0, signal.SIGKILL, 512))  # one that follows, and the first
    ends = list(learn_and_signal(settings, tmp_path / "killed", killed))
    assert ends == [[RankLost.status, -signal.SIGKILL], [-signal.SIGKILL, RankLost.status]]
    fill(topic, SECOND, PARTITIONS)
    learn_all(settings, 2, tmp_path / "last")
    assert_accounted_for(state)
    learn_all(ranked(stage, learner, tmp_path / "other" / "state", run=apart), 2, tmp_path / "undisturbed")
    assert Outcome.of(state) == Outcome.of(tmp_path / "other" / "state")


def test_other_numbers_of_ranks_continue_what_some_have_begun(
    fill: Fill, topic: str, alone: Callable[[str], str], tmp_path: Path
) -> None:
    stage = fill(topic, FIRST, PARTITIONS)
    state = tmp_path / "state"
    settings = ranked(stage, "ridge", state)
    asked = ((2, 1, signal.SIGTERM, 256), (3, 0, signal.SIGTERM, 512))
    for statuses in learn_and_signal(settings, tmp_path, asked):
        assert not any(statuses), "a rank that is asked to stop has all end"
    fill(topic, SECOND, PARTITIONS)
    learn_all(settings, 1, tmp_path / "1")
    assert sums(state) == alone("ridge")
    assert_accounted_for(state)


@pytest.mark.long
def test_ranks_are_added_and_taken_away_again_and_again(
    fill: Fill, topic: str, alone: Callable[[str], str], tmp_path: Path
) -> None:
    stage = fill(topic, FIRST, PARTITIONS)
    state = tmp_path / "state"
    settings = ranked(stage, "ridge", state)
    starts = ((2, 1, signal.SIGTERM, 200), (3, 2, signal.SIGKILL, 400), (1, 0, signal.SIGTERM, 600))
    ends = [any(statuses) for statuses in learn_and_signal(settings, tmp_path, starts)]
    assert ends == [False, True, False]
    fill(topic, SECOND, PARTITIONS)
    learn_all(settings, 4, tmp_path / "4")
    assert sums(state) == alone("ridge")
    assert_accounted_for(state)


def test_ranks_continue_what_a_single_service_has_begun(
    fill: Fill, topic: str, alone: Callable[[str], str], tmp_path: Path
) -> None:
    stage = fill(topic, FIRST, PARTITIONS)
    state = tmp_path / "state"
    settings = ranked(stage, "ridge", state)
    with running(settings) as service:
        service.has_learned(700)
        service.send(signal.SIGTERM)
        assert service.status() == 0
    fill(topic, SECOND, PARTITIONS)
    learn_all(settings, 3, tmp_path / "logs")
    assert sums(state) == alone("ridge")
    assert_accounted_for(state)
    with running(settings) as service:
        assert service.status() == FAILED
        assert "continue it with any number of them" in service.log


def test_the_page_of_rank_0_shows_what_each_rank_does(
    stage: Stage, alone: Callable[[str], str], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    settings = ranked(stage, "ncm", state, serve={"keep": True})
    with team(settings, 2, tmp_path / "logs") as started:
        until(lambda: "the run has ended" in started.log, "the run has ended")
        address = re.findall(r" at (http://\S+)\n", started.log)[0]
        found = text_string_to_metric_families(httpx.get(f"{address}/metrics", timeout=30).text)
        values = {
            (sample.name, sample.labels.get("rank")): sample.value
            for family in found
            for sample in family.samples
        }
        started.send(0, signal.SIGTERM)
        assert started.statuses() == [0, 0], started.log
    assert sums(state) == alone("ncm")
    assert_accounted_for(state)
    shares = [values["lethe_rank_samples_learned_total", rank] for rank in "01"]
    assert sum(shares) == TOTAL
    assert min(shares) > 0.4 * TOTAL
    assert [values["lethe_rank_lag_records", rank] for rank in "01"] == [0, 0]
    assert values["lethe_round_duration_seconds_count", None] >= TOTAL / 2 / 32
    for what in ("learning", "collective"):
        assert all(values[f"lethe_rank_{what}_seconds_total", rank] > 0 for rank in "01"), what
    assert all(values["lethe_rank_waited_for_seconds_total", rank] >= 0 for rank in "01")


def test_malformed_records_are_counted_once(fill: Fill, topic: str, tmp_path: Path) -> None:
    bad: list[Outgoing] = [(b"?", headers) for _, headers in records("a", 60, 5)]
    good = records("a", 300, 6)
    everything = [*good[:120], *bad, *good[120:]]
    stage = fill(topic, everything[:240], PARTITIONS)
    state = tmp_path / "state"
    settings = ranked(stage, "ncm", state)
    settings = settings.model_copy(
        update={"stream": settings.stream.model_copy(update={"stop_after": len(everything)})}
    )
    with team(settings, 2, tmp_path / "killed") as started:
        has_learned(started, state, 128)
        started.send(1, signal.SIGKILL)
        started.statuses()
    fill(topic, everything[240:], PARTITIONS)
    learn_all(settings, 2, tmp_path / "logs")
    assert (Outcome.of(state).learned, Outcome.of(state).dead) == (300, 60)
    assert_accounted_for(state, 360)


def test_a_topic_with_fewer_partitions_than_ranks_is_refused(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage = fill(topic, FIRST, 1)
    with team(ranked(stage, "ncm", tmp_path / "state"), 2, tmp_path / "logs") as started:
        assert started.statuses() == [FAILED, RankLost.status]
        assert "2 ranks need a partition each" in started.log
