"""Ctrl-C while records are sent."""

import signal
import threading

import pytest

from lethe_producers.deferred_interrupt import DeferredInterrupt
from lethe_producers.records import Record
from lethe_producers.replay import Pace
from tests.support.replays import Clock, Topic, run


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def work(interruption: DeferredInterrupt, done: list[str]) -> None:
    with interruption.deferred():
        interrupt()
        done.append("whole")
        if "impatient" in done:
            interrupt()
            done.append("waited")
    done.append("more")


def test_a_protected_block_is_completed_and_then_interrupted() -> None:
    done: list[str] = []
    with DeferredInterrupt() as interruption, pytest.raises(KeyboardInterrupt):
        work(interruption, done)
    assert done == ["whole"]


def test_a_second_one_waits_for_nothing() -> None:
    done = ["impatient"]
    with DeferredInterrupt() as interruption, pytest.raises(KeyboardInterrupt):
        work(interruption, done)
    assert done == ["impatient", "whole"]


def test_elsewhere_it_is_interrupted_at_once() -> None:
    with DeferredInterrupt() as interruption:
        with interruption.deferred():
            pass
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with DeferredInterrupt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_held_up() -> None:
    done = []

    def look() -> None:
        with DeferredInterrupt() as interruption, interruption.deferred():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


class Interrupted(Topic):
    """A topic that is interrupted while it takes its fifth record."""

    def send(self, record: Record, partition: int) -> None:
        if len(self.came) == 4:
            interrupt()
        super().send(record, partition)


def test_a_record_that_is_being_sent_is_flushed_too() -> None:
    clock = Clock()
    topic = Interrupted(1, clock)
    with pytest.raises(KeyboardInterrupt):
        run(clock, topic, 10, Pace())
    assert topic.flushed == len(topic.came) == 5
