"""The state of a run follows from its events alone, and is always consistent."""

import json
import threading
import time
from collections.abc import Sequence

import pytest

from lethe.evaluation.history import History
from lethe.events import (
    BatchLearned,
    BrokerStatus,
    Evaluated,
    LabelsJoined,
    Lag,
    LoopTurned,
    PolicyViolated,
    PrivacySpent,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    Resumed,
    SegmentStarted,
    ViolationPersists,
)
from lethe.learners.gradient.finetune import Finetune
from lethe.observability.run_state import RunState
from lethe.observability.throughput import THROUGHPUT_POINTS
from lethe.settings import EvaluationSettings, LearnerSettings, ServeSettings, Settings
from lethe.stream.settings import StreamSettings
from tests.support.readings import readings

SETTINGS = Settings(
    stream=StreamSettings(topic="styx", bootstrap_servers="charon:9092"),
    learner=LearnerSettings(seed=5),
    evaluation=EvaluationSettings(every=100, subset=10),
    serve=ServeSettings(stalled_seconds=30),
)


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A run state, its history and its clock."""

    def __init__(self, probes: Sequence[str] = ("a", "b")) -> None:
        self.clock = Clock()
        self.history = History(probes)
        self.run_state = RunState(SETTINGS, Finetune, self.history, self.clock)

    def learn(self, samples: int, seconds: float, correct: int = 0) -> None:
        """Learn a batch that takes ``seconds``."""
        self.clock.now += seconds
        self.history.learned(samples, correct)
        self.run_state(BatchLearned(samples, samples, correct, 1.0, seconds, seconds, seconds, None, None))

    def evaluate(self, a: float, b: float, *, ends: bool = False, seconds: float = 0.0) -> None:
        """Evaluate, for ``seconds``."""
        self.clock.now += seconds
        segments = self.history.segments
        event = Evaluated(
            samples=self.history.samples,
            readings=readings({"a": a, "b": b}),
            full=True,
            visit=len(segments),
            segment=segments[-1] if segments else None,
            ends_segment=ends,
            seconds=seconds,
            images={"a": 100, "b": 400},
        )
        self.run_state(event)
        self.run_state(self.history.evaluated(event))


def test_records_are_counted_by_outcome() -> None:
    run = Run()
    run.run_state(RecordsReceived(70))
    run.learn(64, 0.1)
    run.run_state(RecordsDeadLettered("oversized", 4))
    run.run_state(RecordsDeadLettered("null_value", 1))
    run.run_state(RecordsDeadLettered("oversized", 1))
    run.run_state(RecordsLost(3))
    run.run_state(LoopTurned(resident=0, kept=50))
    result = run.run_state.result()
    assert result.samples.model_dump() == {
        "received": 70,
        "learned": 64,
        "discarded": 64,
        "dead_lettered": 6,
        "lost": 3,
        "resident": 0,
        "kept": 50,
        "unlabelled": 0,
    }
    assert result.dead_letters == {"oversized": 5, "null_value": 1}
    assert run.run_state.state()["samples"] == result.samples.model_dump()
    assert run.run_state.state()["dead_letters"] == result.dead_letters


def test_learned_samples_that_are_still_in_memory_do_not_count_as_discarded() -> None:
    run = Run()
    run.learn(64, 0.1)
    run.run_state(BatchLearned(64, 60, 0, 1.0, 0.1, 0.1, 0.1, None, None))
    samples = run.run_state.result().samples
    assert (samples.learned, samples.discarded) == (128, 124)


def test_the_counts_of_a_checkpoint_restore_them() -> None:
    before = Run()
    before.run_state(RecordsReceived(70))
    before.learn(64, 0.1)
    before.run_state(RecordsDeadLettered("oversized", 6))
    before.run_state(RecordsLost(3))
    before.run_state(LabelsJoined(5, {"no_key": 2}))
    before.run_state(LabelsJoined(1, {"no_key": 1, "unmatched": 4}))
    dropped = {"no_key": 3, "unmatched": 4}
    after = Run()
    after.run_state(before.run_state.counts())
    assert after.run_state.counts() == Resumed(
        received=70, learned=64, dead={"oversized": 6}, lost=3, labels_joined=6, labels_dropped=dropped
    )
    assert after.run_state.state()["samples"] == before.run_state.state()["samples"]
    assert after.run_state.state()["late_labels"] == {"joined": 6, "dropped": dropped}


def test_when_records_were_last_lost_is_among_the_times_that_a_checkpoint_keeps() -> None:
    run = Run()
    assert run.run_state.timing()["lost_at"] is None
    run.run_state(Resumed(0, 0, {}, 7, lost_at=50.0))
    assert run.run_state.timing()["lost_at"] == 50
    before = time.time()
    run.run_state(RecordsLost(3))
    lost_at = run.run_state.timing()["lost_at"]
    assert isinstance(lost_at, float)
    assert before <= lost_at <= time.time()


def test_when_a_rule_was_last_violated_is_among_the_times_that_a_checkpoint_keeps() -> None:
    run = Run()
    assert run.run_state.timing()["violated"] == {}
    run.run_state(Resumed(0, 0, {}, 0, violated={"ttl": 50.0, "purge": 60.0}))
    run.run_state(PolicyViolated("purge", "late", at=100.0))
    run.run_state(ViolationPersists("purge", at=160.0))
    assert run.run_state.timing()["violated"] == {"ttl": 50.0, "purge": 160.0}


def test_a_result_describes_the_run_and_its_settings() -> None:
    result = Run().run_state.result()
    assert (result.learner, result.retains, result.summary) == ("finetune", "nothing", Finetune.summary)
    assert (result.seed, result.evaluate_every, result.probe_subset) == (5, 100, 10)
    assert result.broker == "charon:9092"
    assert result.probes == ["a", "b"]


def test_a_run_that_has_not_begun_has_a_state_and_a_result() -> None:
    run = Run()
    state = run.run_state.state()
    assert state["segment"] is None
    assert state["scores"] == state["accuracy"] == {}
    assert state["samples_per_second"] == 0
    result = run.run_state.result()
    assert result.R == []
    assert (result.samples_per_second, result.seconds, result.acc, result.bwt) == (0, 0, None, None)


def test_scores_and_matrix_are_those_of_the_last_evaluation() -> None:
    run = Run()
    run.evaluate(0.1, 0.1)
    run.history.segment_started("a")
    run.learn(64, 0.1, correct=32)
    run.evaluate(0.992, 0.1, ends=True)
    run.history.segment_started("b")
    run.learn(64, 0.1, correct=64)
    run.evaluate(0.339, 0.911, ends=True)
    result = run.run_state.result()
    assert result.R == [[0.1, 0.1], [0.992, 0.1], [0.339, 0.911]]
    assert result.bwt == pytest.approx(-0.653)
    assert result.forgetting_by_probe == {"a": pytest.approx(0.653)}
    assert result.prequential_accuracy == 0.75
    assert result.segments == ["a", "b"]
    assert [(switch.segment, switch.samples) for switch in result.switches] == [("a", 0), ("b", 64)]
    assert [point.samples for point in result.evaluations] == [0, 64, 128]
    state = run.run_state.state()
    assert state["accuracy"] == {"a": 0.339, "b": 0.911}
    assert state["by_class"]["a"] == result.classes[-1].accuracy["a"]
    assert state["ece"] == result.evaluations[-1].ece
    assert [point.samples for point in result.classes] == [0, 64, 128]
    assert state["scores"]["bwt"] == result.bwt
    assert state["R"] == result.R
    assert (state["segment"], state["visit"]) == ("b", 2)


def test_prequential_accuracy_includes_the_samples_after_the_last_evaluation() -> None:
    run = Run()
    run.evaluate(0.1, 0.1)
    run.learn(10, 0.1, correct=5)
    run.evaluate(0.1, 0.1)
    run.learn(10, 0.1, correct=10)
    assert run.run_state.result().prequential_accuracy == 0.75


def test_what_the_numbers_tell_is_in_the_state_and_in_the_result() -> None:
    run = Run()
    assert run.run_state.state()["fading_accuracy"] is run.run_state.state()["chance_accuracy"] is None
    run.evaluate(0.1, 0.1)
    run.history.segment_started("a")
    run.learn(64, 0.1, correct=32)
    run.evaluate(0.9, 0.5, ends=True)
    run.history.segment_started("b")
    run.evaluate(0.9, 0.5)
    run.clock.now += 90
    run.evaluate(0.7, 0.8)
    run.clock.now += 10
    state, result = run.run_state.state(), run.run_state.result()
    assert state["fading_accuracy"] == result.fading_accuracy == 0.5
    assert state["chance_accuracy"] == result.chance_accuracy == 0.5, "two classes"
    assert state["noise"] == result.noise
    assert result.noise == pytest.approx(
        {"a": 2 * (0.7 * 0.3 / 100) ** 0.5, "b": 2 * (0.8 * 0.2 / 400) ** 0.5}
    )
    assert state["within_floor"] == result.within_floor == pytest.approx(0.9)
    left = pytest.approx(1 - 10 / (0.01 * 30 * 86400))
    assert state["forgetting_budget_left"] == result.forgetting_budget_left == left


def test_time_within_the_floor_continues_after_a_restart_without_the_downtime() -> None:
    run = Run()
    run.evaluate(0.1, 0.1)
    run.history.segment_started("a")
    run.learn(64, 0.1)
    run.evaluate(0.9, 0.1, ends=True)
    run.history.segment_started("b")
    run.evaluate(0.5, 0.1)
    run.clock.now += 60
    timing = json.loads(json.dumps(run.run_state.timing()))
    again = Run()
    again.run_state.resume_timing(timing)
    again.clock.now += 10_000
    assert again.run_state.result().within_floor == 0
    assert again.run_state.result().forgetting_budget_left == pytest.approx(1 - 60 / 25920)
    older = {name: value for name, value in timing.items() if name != "floors"}
    again.run_state.resume_timing(older)
    assert again.run_state.result().forgetting_budget_left is None, "of a checkpoint without it"


def test_time_is_counted_from_the_first_batch_and_speed_without_evaluations() -> None:
    run = Run()
    run.evaluate(0.1, 0.1, seconds=50)  # the untrained learner: before anything was learned
    run.clock.now += 100  # waiting for the broker
    run.learn(60, 2.0)
    run.evaluate(0.2, 0.1, seconds=5)
    run.learn(40, 3.0)
    result = run.run_state.result()
    assert result.seconds == 10
    assert result.evaluation_seconds == 5
    assert result.samples_per_second == 20


def test_the_state_has_offset_and_lag_of_each_partition() -> None:
    run = Run()
    run.run_state(Lag(offsets={10: 7, 2: 5}, records={10: 3, 2: 0}))
    run.run_state(Lag(offsets={10: 9}, records={10: 1}))
    state = run.run_state.state()
    assert state["positions"] == {"2": 5, "10": 9}
    assert state["lag"] == {"2": 0, "10": 1}
    assert list(state["lag"]) == ["2", "10"]
    assert state["topic"] == "styx"


def test_the_run_is_alive_while_the_loop_turns() -> None:
    run = Run()
    assert run.run_state.alive, "a service that has just started is not stuck"
    run.clock.now += 29
    assert run.run_state.alive
    run.clock.now += 2
    assert not run.run_state.alive
    run.run_state(LoopTurned(0))
    assert run.run_state.alive


def test_an_evaluation_is_a_sign_of_life() -> None:
    run = Run()
    run.evaluate(0.1, 0.1, seconds=60)
    assert run.run_state.alive


def test_the_run_is_ready_while_the_broker_answers() -> None:
    run = Run()
    assert not run.run_state.ready
    run.run_state(BrokerStatus(up=True))
    assert run.run_state.ready
    run.run_state(BrokerStatus(up=False, detail="gone"))
    assert not run.run_state.ready
    assert run.run_state.state()["broker"] == {"up": False, "detail": "gone"}
    assert run.run_state.alive, "an outage of the broker is no reason to restart the service"


def test_throughput_keeps_a_bounded_number_of_points_of_a_long_run() -> None:
    run = Run(probes=())
    for _ in range(5 * THROUGHPUT_POINTS):
        run.learn(30, 1.0)
    points = run.run_state.result().throughput
    assert THROUGHPUT_POINTS / 4 <= len(points) <= THROUGHPUT_POINTS
    assert {round(point.samples_per_second, 9) for point in points} == {30.0}
    assert points[-1].samples > 0.99 * 30 * 5 * THROUGHPUT_POINTS
    assert [point.samples for point in points] == sorted(point.samples for point in points)


def test_throughput_shows_when_the_run_was_slower() -> None:
    run = Run(probes=())
    for _ in range(20):
        run.learn(64, 1.0)
    assert run.run_state.state()["samples_per_second"] == 64
    for _ in range(20):
        run.learn(64, 4.0)
    assert run.run_state.state()["samples_per_second"] == 16
    speeds = [point.samples_per_second for point in run.run_state.result().throughput]
    assert speeds[0] == 64
    assert speeds[-1] == 16


def test_throughput_falls_while_nothing_is_learned_and_not_for_an_evaluation() -> None:
    run = Run()
    for _ in range(20):
        run.learn(64, 1.0)
    run.evaluate(0.1, 0.1, seconds=9)
    assert run.run_state.state()["samples_per_second"] == 64
    run.clock.now += 12
    assert run.run_state.state()["samples_per_second"] == 16


def test_throughput_does_not_count_the_time_of_evaluations() -> None:
    run = Run()
    for _ in range(10):
        run.learn(50, 1.0)
        run.evaluate(0.1, 0.1, seconds=9)
    assert {point.samples_per_second for point in run.run_state.result().throughput} == {50.0}


def test_the_state_is_plain_json() -> None:
    run = Run()
    run.evaluate(0.1, 0.1)
    run.history.segment_started("a")
    run.learn(64, 0.1)
    state = run.run_state.state()
    assert json.loads(json.dumps(state)) == state


def test_the_state_is_consistent_while_another_thread_learns() -> None:
    run = Run(probes=())
    began, done = threading.Event(), threading.Event()
    seen = []

    def read() -> None:
        while not done.is_set():
            seen.append(run.run_state.state()["samples"])
            began.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert began.wait(60)
    for _ in range(2000):
        run.learn(1, 0.01)
    done.set()
    reader.join(60)
    assert seen
    assert all(counts["learned"] == counts["discarded"] for counts in seen)
    assert [c["learned"] for c in seen] == sorted(c["learned"] for c in seen)


def test_a_reader_sees_a_snapshot_and_never_the_history_that_the_loop_changes() -> None:
    run = Run()
    run.evaluate(0.1, 0.1)
    before = run.run_state.state(), run.run_state.result()
    run.history.segment_started("a")
    run.history.learned(64, 32)
    assert run.run_state.state()["visit"] == before[0]["visit"] == 0
    later = run.run_state.result()
    assert (later.segments, later.switches, later.prequential_accuracy) == ([], [], None)
    run.run_state(SegmentStarted("a", 1, 0))
    assert run.run_state.state()["segment"] == "a"
    assert before[1].segments == []


def test_what_differential_privacy_costs_is_in_the_state_and_in_the_result() -> None:
    run = Run()
    assert run.run_state.state()["privacy"] is None
    run.run_state(PrivacySpent(2.5, 1e-5, 8.0, spent=False))
    account = {
        "epsilon": 2.5,
        "delta": 1e-5,
        "budget": 8.0,
        "spent": False,
        "simulated": False,
        "simulated_epsilon": None,
    }
    assert run.run_state.state()["privacy"] == account
    assert run.run_state.result().model_dump()["privacy"] == account


def test_seeded_noise_gives_no_epsilon_but_a_simulated_one() -> None:
    run = Run()
    run.run_state(PrivacySpent(2.5, 1e-5, 8.0, spent=False, simulated=True))
    for account in (run.run_state.state()["privacy"], run.run_state.result().model_dump()["privacy"]):
        assert account["epsilon"] is None
        assert account["simulated"] is True
        assert account["simulated_epsilon"] == 2.5
