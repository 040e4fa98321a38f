"""Ctrl-C while records are sent."""

import signal
import threading

import pytest

from producers.interruption import Interruption
from producers.records import Record
from producers.replay import Pace
from tests.test_replay import Clock, Topic, run


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def work(interruption: Interruption, done: list[str]) -> None:
    with interruption.held():
        interrupt()
        done.append("whole")
        if "impatient" in done:
            interrupt()
            done.append("waited")
    done.append("more")


def test_what_is_held_is_done_as_a_whole_and_then_interrupted() -> None:
    done: list[str] = []
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        work(interruption, done)
    assert done == ["whole"]


def test_a_second_one_waits_for_nothing() -> None:
    done = ["impatient"]
    with Interruption() as interruption, pytest.raises(KeyboardInterrupt):
        work(interruption, done)
    assert done == ["impatient", "whole"]


def test_elsewhere_it_is_interrupted_at_once() -> None:
    with Interruption() as interruption:
        with interruption.held():
            pass
        with pytest.raises(KeyboardInterrupt):
            interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_where_it_is_ignored_it_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interruption():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_held_up() -> None:
    done = []

    def look() -> None:
        with Interruption() as interruption, interruption.held():
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
