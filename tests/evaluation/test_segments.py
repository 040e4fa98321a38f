"""Segments are a property of the stream: the same whatever the batches, and no costlier than the cadence."""

import doctest
import json
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lethe.evaluation import segments
from lethe.evaluation.history import History
from lethe.evaluation.segments import SegmentTracker, Switch
from lethe.events import (
    Evaluated,
    SegmentsCapped,
    SegmentsMixed,
    SegmentStarted,
    SegmentWithdrawn,
    SegmentWithoutProbe,
)
from lethe.learners.base import Learned, LearnerContext
from lethe.observability.log import log_event
from lethe.runtime.segmentation import MOST_SEGMENTS, Segmentation
from lethe.wire import Sample
from tests.support.feeds import LAYOUT, ScriptedFeed, segment
from tests.support.readings import readings
from tests.support.runs import Remembering, Run, learn

Names = Sequence[str | None]


class Idle(Remembering):
    """Learns nothing, so that many streams can be tried."""

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        return Learned(predicted_B=torch.zeros_like(y_B), loss=0.5)

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        return torch.full((len(x_BCHW), LAYOUT.classes), 1 / LAYOUT.classes)


IDLE = Idle(LearnerContext(LAYOUT))
IMAGE = segment(None, 1)[0]


def named(names: Names) -> list[Sample]:
    return [replace(IMAGE, segment=name) for name in names]


def run_over(names: Names, batch: int, *, least: int, every: int = 10_000, apart: bool = False) -> Run:
    feed = ScriptedFeed(named(names), size=batch)
    return learn(feed, learner=IDLE, every=every, apart=apart, least=least)


def runs_of(names: Names) -> list[tuple[str | None, int]]:
    return [(name, len(list(group))) for name, group in groupby(names)]


def by_definition(names: Names, least: int) -> list[Switch]:
    """Segments, from the whole stream at once: runs of ``least`` or more, those of one name merged."""
    carried: list[str | None] = []
    for name in names:
        carried.append(name if name is not None or not carried else carried[-1])
    found, at = list[Switch](), 0
    for name, count in runs_of(carried):
        if name is not None and count >= least and (not found or found[-1].segment != name):
            found.append(Switch(at, name))
        at += count
    return found


def last_candidate(names: Names, least: int) -> list[Switch]:
    """The last run, if it is too short only because the stream ends and nothing is mixed before it."""
    tracker = SegmentTracker(least)
    tracker.read(runs_of(names))
    return [] if tracker.candidate is None else [tracker.candidate]


streams = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(1, 12)), max_size=14).map(
    lambda runs: [name for name, count in runs for _ in range(count)]
)


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(segments).failed == 0


@given(streams, st.integers(1, 6), st.lists(st.integers(1, 20), max_size=8))
def test_the_tracker_finds_the_runs_that_are_long_enough_for_any_batches(
    names: list[str | None], least: int, cuts: list[int]
) -> None:
    tracker, found, rest = SegmentTracker(least), list[Switch](), names
    for cut in [*cuts, len(names)]:
        found += tracker.read(runs_of(rest[:cut]))
        rest = rest[cut:]
    assert found == by_definition(names, least)
    assert tracker.samples == len(names)


@settings(deadline=None)
@given(streams, st.integers(1, 6), st.integers(1, 40), st.booleans(), st.sampled_from([1, 7, 10_000]))
def test_a_run_has_the_streams_segments_for_any_batch_size_cadence_and_policy(
    names: list[str | None], least: int, batch: int, apart: bool, every: int
) -> None:
    if not names:
        return
    run = run_over(names, batch, least=least, every=every, apart=apart)
    assert list(run.history.switches) == [*by_definition(names, least), *last_candidate(names, least)]
    assert run.history.samples == len(names)
    R = run.history.to_json()["R"]  # type: ignore[index, call-overload]
    assert isinstance(R, list)
    assert len(R) == 1 + len(run.history.switches), "every segment has its row"
    full = [event for event in run.of(Evaluated) if event.full]
    confirmed, tried = len(by_definition(names, least)), 2 + len(names) // every
    assert len(full) <= 2 + confirmed + tried


@pytest.mark.parametrize("batch", [1, 2, 4, 16])
def test_alternating_sources_are_not_segments_and_cost_no_evaluations(batch: int) -> None:
    run = run_over(["a", "b"] * 60, batch, least=32, every=1000)
    assert run.history.segments == []
    assert len(run.of(Evaluated)) == 2, "before the first sample and at the end"


@pytest.mark.parametrize("batch", [1, 16, 64])
def test_sources_of_unequal_shares_cost_no_more_evaluations_than_the_cadence(batch: int) -> None:
    draw = random.Random(3)
    names = ["b" if draw.random() < 0.05 else "a" for _ in range(8000)]
    run = run_over(names, batch, least=32, every=2000)
    assert run.history.segments == ["a"]
    assert len([event for event in run.of(Evaluated) if event.full]) <= 2 + 1 + 8000 // 2000


def test_a_short_segment_has_its_row_measured_before_the_next_is_learned() -> None:
    names = [name for name in "abcabc" for _ in range(40)]
    run = run_over(names, 8, least=32)
    ends = [event for event in run.of(Evaluated) if event.ends_segment]
    assert [(event.visit, event.samples) for event in ends] == [(i, 40 * i) for i in range(1, 7)]


def test_segments_that_begin_within_one_batch_share_an_evaluation() -> None:
    names = [None] * 40 + [name for name in "abcd" for _ in range(40)]
    run = run_over(names, 80, least=32)
    starts = [(switch.samples, switch.segment) for switch in run.history.switches]
    assert starts == [(40, "a"), (80, "b"), (120, "c"), (160, "d")]
    reported = [(event.samples, event.visit, event.ends_segment) for event in run.of(Evaluated)]
    assert reported == [(0, 0, False), (80, 1, True), (160, 3, True), (200, 4, True)], (
        "none for b, which c follows"
    )


def test_nothing_is_evaluated_twice_without_learning_in_between() -> None:
    run = run_over([None] * 40 + ["a"] * 40 + ["b"] * 40, 40, least=32, every=10_000)
    assert [event.samples for event in run.of(Evaluated)] == [0, 80, 120]
    again = learn(ScriptedFeed(named(["c"] * 40), size=40), learner=IDLE, history=run.history, every=10_000)
    assert [event.samples for event in again.of(Evaluated)] == [160], "b was closed when the stream ended"
    assert again.history.segments == ["a", "b", "c"]


def test_a_stray_name_does_not_end_a_segment() -> None:
    names: list[str | None] = [*["a"] * 51, "b", *["a"] * 48]  # the last of a batch
    run, alone = (run_over(stream, 4, least=32, every=10) for stream in (names, ["a"] * 100))
    assert run.of(SegmentWithdrawn) == [SegmentWithdrawn("b", 1, "a")]
    assert run.history.segments == alone.history.segments == ["a"]
    scores, expected = run.history.latest(), alone.history.latest()
    assert scores is not None
    assert expected is not None
    assert scores.R == expected.R
    assert scores.scores.acc == expected.scores.acc
    assert scores.scores.min_acc is scores.scores.bwt is None
    assert {point.visit for point in run.history.points} == {0, 1}
    assert [point.ends_segment for point in run.history.points].count(True) == 1, "the stream's end"


accuracies = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans()), max_size=6)


@given(accuracies, accuracies, accuracies, st.integers(0, 2))
def test_a_withdrawn_switch_does_not_affect_any_score(
    before: list[tuple[float, float, bool]],
    since: list[tuple[float, float, bool]],
    after: list[tuple[float, float, bool]],
    visits: int,
) -> None:
    doubted, sure = History("ab"), History("ab")

    def measure(history: History, a: float, b: float, full: bool, ends: bool = False) -> None:
        visit = len(history.segments)
        event = Evaluated(history.samples, readings({"a": a, "b": b}), full, visit, None, ends, 0.1)
        history.evaluated(event)

    for history in (doubted, sure):
        measure(history, 0.1, 0.2, True)
        for visit in range(visits):
            if visit:
                measure(history, 0.7, 0.6, True, ends=True)
            history.segment_started("ba"[visit])
        history.learned(5, 3)
        for a, b, full in before:
            measure(history, a, b, full)
    measure(sure, 0.5, 0.4, True)
    measure(doubted, 0.5, 0.4, True, ends=bool(visits))
    doubted.segment_started("a" if visits == 1 else "b", confirmed=False)
    for a, b, full in since:
        for history in (doubted, sure):
            history.learned(2, 1)
            measure(history, a, b, full)
        doubted = History.from_json(json.loads(json.dumps(doubted.to_json())))
    doubted.segment_withdrawn()
    assert doubted.latest() == sure.latest()
    for a, b, full in after:
        for history in (doubted, sure):
            measure(history, a, b, full)
    measure(doubted, 0.3, 0.3, True, ends=bool(visits))
    measure(sure, 0.3, 0.3, True, ends=bool(visits))
    assert doubted.latest() == sure.latest()
    assert doubted.switches == sure.switches
    assert doubted.points == sure.points


@given(streams, st.integers(1, 6), st.integers(1, 5), st.integers(0, 40))
def test_after_a_restart_the_same_segments_are_found(
    names: list[str | None], least: int, batch: int, crash: int
) -> None:
    history, events = History("ab", least=least), list[object]()
    for number, begin in enumerate(range(0, len(names), batch)):
        runs = runs_of(names[begin : begin + batch])
        segmentation = Segmentation(history, events.append, every=20)
        segmentation.begin(segmentation.due(runs))
        assert list(segmentation.due(runs)) == [], "asked again, because the batch went back"
        history.learned(sum(count for _, count in runs), 0)
        segmentation.learned()
        if number == crash:
            history = History.from_json(json.loads(json.dumps(history.to_json())))
    begun = [switch for switch in history.switches if switch != history.unconfirmed]
    assert begun == by_definition(names, least)


def test_a_checkpoint_of_a_version_without_the_tracker_continues_its_last_segment() -> None:
    history = History("ab")
    history.segment_started("a")
    history.learned(500, 5)
    old = json.loads(json.dumps(history.to_json()))
    for added in ("tracker", "unconfirmed", "withdrawn_at"):
        del old[added]
    restored = History.from_json(old)
    segmentation = Segmentation(restored, lambda event: None, every=100)
    assert list(segmentation.due([("a", 8)])) == []
    assert list(segmentation.due([("a", 4), ("b", 4)])) == [Switch(504, "b")]


def test_segments_beyond_the_limit_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    history, events = History((), least=1), list[object]()
    segmentation = Segmentation(history, events.append, every=100)
    for turn in range(MOST_SEGMENTS + 5):
        segmentation.begin(segmentation.due([(f"s{turn}", 1)]))
        segmentation.learned()
    capped = [event for event in events if isinstance(event, SegmentsCapped)]
    assert capped == [SegmentsCapped(MOST_SEGMENTS, f"s{MOST_SEGMENTS}")]
    assert len(history.segments) == MOST_SEGMENTS
    with caplog.at_level(logging.WARNING, logger="lethe"):
        log_event(capped[0])
    assert caplog.messages == [
        "the limit of 1000 segments is reached: s1000 and all later segments count as the last one"
    ]


def test_a_segment_without_a_probe_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    names = [name for name in ("A ", "b", "A ", "c") for _ in range(40)]
    reported = run_over(names, 8, least=32).of(SegmentWithoutProbe)
    assert reported == [
        SegmentWithoutProbe("A ", "a", ("a", "b"), ("A ",)),
        SegmentWithoutProbe("c", None, ("a", "b"), ("A ", "b", "c")),
    ]
    with caplog.at_level(logging.WARNING, logger="lethe"):
        for event in reported:
            log_event(event)
    beginning = "no probe is named %s, so no score counts this segment: probes are a, b; "
    assert caplog.messages == [
        beginning % "A " + "segments so far A ; 'A ' and 'a' differ in case or white space",
        beginning % "c" + "segments so far A , b, c",
    ]


def test_alternating_names_are_reported_once() -> None:
    assert run_over(["a", "b"] * 60, 1, least=32).of(SegmentsMixed) == [SegmentsMixed(("a", "b"), 32)]
    assert run_over(["a"] * 40 + ["b"] * 40, 1, least=32).of(SegmentsMixed) == []
    untidy = ["a"] * 40 + ["a", "b"] * 20 + ["b"] * 40  # as when partitions switch one after the other
    assert run_over(untidy, 1, least=32).of(SegmentsMixed) == []


def test_an_unconfirmed_segment_begins_at_once_and_is_withdrawn_afterwards() -> None:
    names: list[str | None] = [*["a"] * 40, "b", "b", *["a"] * 40, *["b"] * 40]
    run = run_over(names, 1, least=32, every=50)
    reported = [e for e in run.events if isinstance(e, SegmentStarted | SegmentWithdrawn)]
    assert reported == [
        SegmentStarted("a", 1, 0),
        SegmentStarted("b", 2, 40),
        SegmentWithdrawn("b", 1, "a"),
        SegmentStarted("b", 2, 82),
    ]
    begun = [event.samples for event in run.of(Evaluated) if event.ends_segment]
    assert begun == [40, 92, 122], "after one for nothing, the next is the cadence's to give"
