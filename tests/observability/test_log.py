"""An operator reads in the log what happened, loud enough for what it is."""

import logging

import pytest

from lethe.events import (
    BatchLearned,
    BatchReturned,
    BrokerStatus,
    Evaluated,
    Event,
    LearningStarted,
    LoopTurned,
    LossSurged,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    SegmentsMixed,
    SegmentStarted,
    SegmentWithdrawn,
)
from lethe.observability.log import log_event
from tests.support.readings import readings

ACCURACY = {"mnist": 0.98765, "fashion": 0.1}


@pytest.mark.parametrize(
    ("event", "level", "message"),
    [
        (
            LossSurged(5.04, 1064),
            "WARNING",
            "after 1064 samples: the loss is 5.0 times as large as usual; earlier skills may be lost soon",
        ),
        (SegmentStarted("mnist", 1, 0), "INFO", "segment 1, mnist, starts after 0 samples"),
        (
            SegmentWithdrawn("b", 1, "a"),
            "INFO",
            "too few successive records are of b: segment 1, a, continues",
        ),
        (
            SegmentWithdrawn("a", 0, None),
            "INFO",
            "too few successive records are of a: no segment has begun",
        ),
        (
            SegmentsMixed(("a", "b"), 32),
            "WARNING",
            "records of a and b alternate: a segment needs 32 successive records of one name (--min-segment)",
        ),
        (
            LearningStarted(seconds=4.25, imports_seconds=3.0),
            "INFO",
            "learning 4.2 s after the start: 3.0 s of imports and 1.2 s",
        ),
        (
            Evaluated(64, readings(ACCURACY), False, 1, "mnist", False, 0.1),
            "INFO",
            "after 64 samples (subset): mnist 0.9877, fashion 0.1000",
        ),
        (
            Evaluated(0, readings(ACCURACY), True, 0, None, False, 0.1),
            "INFO",
            "after 0 samples (full): mnist 0.9877, fashion 0.1000",
        ),
        (
            Evaluated(64, readings(ACCURACY), True, 1, "mnist", True, 0.1),
            "INFO",
            "after 64 samples (end of segment): mnist 0.9877, fashion 0.1000",
        ),
        (
            RecordsDeadLettered("oversized", 3),
            "WARNING",
            "3 malformed records dead-lettered: oversized",
        ),
        (RecordsLost(7), "ERROR", "7 records lost: the broker never served their offsets"),
        (BrokerStatus(up=True), "INFO", "the broker answers"),
        (BrokerStatus(up=False, detail="gone"), "WARNING", "waiting for the broker: gone"),
    ],
)
def test_an_event_is_logged_as_its_line(
    event: Event, level: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="lethe"):
        log_event(event)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [(level, message)]


@pytest.mark.parametrize(
    "event", [RecordsReceived(64), LoopTurned(0), BatchLearned(64, 64, 3, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5)]
)
def test_frequent_events_are_not_logged(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="lethe"):
        log_event(event)
    assert caplog.records == []


def test_a_repeatedly_returned_batch_is_logged_at_each_doubling(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, logger="lethe"):
        for times in range(1, 40):
            log_event(BatchReturned(times))
    said = [record.getMessage() for record in caplog.records]
    assert [int(line.split("broker ")[1].split()[0]) for line in said] == [2, 4, 8, 16, 32]
