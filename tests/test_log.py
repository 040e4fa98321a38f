"""An operator reads in the log what happened, loud enough for what it is."""

import logging

import pytest

from service.events import (
    BatchLearned,
    BrokerSeen,
    Evaluated,
    Event,
    LearningBegan,
    RecordsDeadLettered,
    RecordsLost,
    RecordsReceived,
    SegmentStarted,
    Turned,
)
from service.log import log_event
from tests.readings import readings

ACCURACY = {"mnist": 0.98765, "fashion": 0.1}


@pytest.mark.parametrize(
    ("event", "level", "message"),
    [
        (SegmentStarted("mnist", 1, 0), "INFO", "segment 1, mnist, starts after 0 samples"),
        (
            LearningBegan(seconds=4.25, imports_seconds=3.0),
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
        (BrokerSeen(up=True), "INFO", "the broker answers"),
        (BrokerSeen(up=False, detail="gone"), "WARNING", "waiting for the broker: gone"),
    ],
)
def test_an_event_makes_its_line(
    event: Event, level: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="lethe"):
        log_event(event)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [(level, message)]


@pytest.mark.parametrize(
    "event", [RecordsReceived(64), Turned(0), BatchLearned(64, 64, 3, 0.1, 0.1, 0.1, 0.1, 0.5, 0.5)]
)
def test_what_happens_many_times_a_second_makes_none(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="lethe"):
        log_event(event)
    assert caplog.records == []
