"""Replay in time: pace, backpressure, resume; under a clock that only sleeping moves."""

from collections.abc import Callable
from functools import partial

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.errors import BrokerUnavailable, InvalidSetting
from lethe_producers.backpressure import Backpressure, fetch_positions
from lethe_producers.replay import Pace, Tail, first_to_send, is_of, left_to_send, replay
from tests.support.replays import Clock, Topic, record_at, run


def test_a_constant_rate_spaces_the_records_evenly() -> None:
    clock = Clock()
    assert run(clock, Topic(1, clock), 5, Pace(rate=4)) == [0, 0.25, 0.5, 0.75, 1]


def test_bursts_keep_the_mean_rate() -> None:
    clock = Clock()
    assert run(clock, Topic(1, clock), 7, Pace(rate=4, burst=3)) == [0, 0, 0, 0.75, 0.75, 0.75, 1.5]


def test_without_a_rate_nothing_waits() -> None:
    clock = Clock()
    assert run(clock, Topic(1, clock), 3, Pace()) == [0, 0, 0]


@given(st.floats(0.1, 1e5), st.integers(1, 100), st.integers(0, 10**6))
def test_no_pace_runs_ahead_of_its_rate_by_more_than_a_burst(rate: float, burst: int, nth: int) -> None:
    due = Pace(rate, burst).due(nth)
    assert nth - burst < due * rate * (1 + 1e-9) + 1e-6
    assert due * rate <= nth * (1 + 1e-9)


@pytest.mark.parametrize(("rate", "burst", "said"), [(0, 1, "rate"), (-1, 1, "rate"), (None, 0, "burst")])
def test_an_impossible_pace_is_refused(rate: float | None, burst: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Pace(rate, burst)


def test_records_go_to_their_partition_and_are_flushed_at_the_end() -> None:
    clock = Clock()
    topic = Topic(3, clock)
    run(clock, topic, 7, Pace())
    assert [(index, partition) for index, partition, _ in topic.came] == [(i, i % 3) for i in range(7)]
    assert topic.flushed == 7


def test_an_interruption_flushes_sent_records() -> None:
    clock = Clock()
    topic = Topic(1, clock)

    def interrupt(index: int) -> None:
        if index == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(clock, topic, 10, Pace(), interrupt)
    assert topic.flushed == 5


def test_time_spent_held_back_is_not_made_up_for_by_a_burst() -> None:
    clock = Clock()
    topic = Topic(1, clock)

    def learned(url: str) -> dict[int, int]:
        return {0: 2 if clock() >= 110 else 0}

    backpressure = Backpressure(["u"], 2, 1, [0], learned, clock, clock.sleep)
    replay(record_at, topic, range(4), Pace(rate=1), backpressure, lambda _: None, clock, clock.sleep)
    assert [when for _, _, when in topic.came] == pytest.approx([100, 101, 110, 111], abs=0.05)


@given(
    st.integers(1, 50),
    st.integers(1, 4),
    st.lists(st.integers(0, 30), min_size=1, max_size=40),
    st.lists(st.integers(0, 100), min_size=4, max_size=4),
)
def test_the_producer_is_never_further_ahead_than_the_window(
    window: int, partitions: int, progress: list[int], start: list[int]
) -> None:
    clock = Clock()
    ends = start[:partitions]
    learned = {partition: ends[partition] for partition in range(partitions)}
    sent = list(ends)
    steps = iter([*progress, *[1] * 1000])

    def ask(url: str) -> dict[int, int]:
        for _ in range(next(steps)):  # the service learns some more between two questions
            late = [part for part in range(partitions) if learned[part] < sent[part]]
            if late:
                learned[late[0]] += 1
        return dict(learned)

    backpressure = Backpressure(["u"], window, 1, ends, ask, clock, clock.sleep)
    for index in range(60):
        backpressure.before_send(index % partitions)
        sent[index % partitions] += 1
        assert sum(sent) - sum(learned.values()) <= window


def test_the_slowest_service_sets_the_pace() -> None:
    clock = Clock()
    learned = {"fast": {0: 10}, "slow": {0: 4}}
    asked: list[str] = []

    def ask(url: str) -> dict[int, int]:
        asked.append(url)
        return learned[url]

    backpressure = Backpressure(["fast", "slow"], 8, 1, [10], ask, clock, clock.sleep)
    backpressure.before_send(0)
    backpressure.before_send(0)
    assert asked == ["fast", "slow"]
    learned["slow"] = {0: 5}
    backpressure.before_send(0)
    assert asked == ["fast", "slow"] * 2


def test_the_replay_waits_for_a_service_that_returns_in_time() -> None:
    clock = Clock()

    def ask(url: str) -> dict[int, int]:
        if clock() < 105:
            raise ConnectionError("refused")
        return {}

    Backpressure(["u"], 8, 10, [0], ask, clock, clock.sleep).before_send(0)
    assert clock() == pytest.approx(105, abs=0.05)


def test_a_service_that_does_not_return_is_an_error_with_its_address() -> None:
    clock = Clock()

    def ask(url: str) -> dict[int, int]:
        raise ConnectionError("refused")

    backpressure = Backpressure(["http://127.0.0.1:9/state"], 8, 10, [0], ask, clock, clock.sleep)
    with pytest.raises(
        BrokerUnavailable, match=r"http://127.0.0.1:9/state has not answered for 10 s: refused"
    ):
        backpressure.before_send(0)
    assert clock() == pytest.approx(110, abs=0.05)


def answering(status: int, text: str) -> Callable[[str], dict[int, int]]:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=text))
    return partial(fetch_positions, httpx.Client(transport=transport))


def test_positions_are_read_from_a_services_state() -> None:
    ask = answering(200, '{"positions": {"0": 1234, "1": 5}, "more": 1}')
    assert ask("http://service/state") == {0: 1234, 1: 5}


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"positions": 3}', '{"positions": {"a": 1}}'])
def test_an_answer_without_positions_names_the_address(text: str) -> None:
    with pytest.raises(
        InvalidSetting, match=r"hold-back http://service/state does not answer with positions"
    ):
        answering(200, text)("http://service/state")


def test_a_service_that_is_not_ready_counts_as_unreachable() -> None:
    with pytest.raises(OSError, match="503"):
        answering(503, "starting")("http://service/state")


@pytest.mark.parametrize("url", ["service/state", "ftp://service", "http://service:port"])
def test_an_address_that_cannot_be_one_is_refused_at_once(url: str) -> None:
    with httpx.Client() as client, pytest.raises(InvalidSetting, match="hold-back"):
        fetch_positions(client, url)


@given(st.integers(0, 60), st.lists(st.integers(0, 20), min_size=1, max_size=5))
def test_resuming_sends_each_record_once_for_any_partition_sizes(total: int, taken: list[int]) -> None:
    partitions = len(taken)
    there = [index for index in range(total) if index // partitions < taken[index % partitions]]
    ends = [sum(index % partitions == part for index in there) for part in range(partitions)]
    last = [max((i for i in there if i % partitions == part), default=-1) for part in range(partitions)]
    tails = [Tail(end, b"s/0/%d" % index if end else None) for end, index in zip(ends, last, strict=True)]
    left = list(left_to_send(total, first_to_send("s/0", tails)))
    assert left == sorted(left)
    assert sorted(there + left) == list(range(total))


def test_a_partition_without_a_record_of_the_stream_is_not_resumed() -> None:
    with pytest.raises(InvalidSetting, match=r"partition 1 ends at offset 7, and none .* is one of s/0"):
        first_to_send("s/0", [Tail(3, b"s/0/4"), Tail(7, None)])


def test_a_stream_in_another_number_of_partitions_is_not_resumed() -> None:
    with pytest.raises(InvalidSetting, match="partition 0 holds s/0/5, which belongs in partition 1"):
        first_to_send("s/0", [Tail(3, b"s/0/5"), Tail(0, None)])


@pytest.mark.parametrize("key", [b"s/1/4", b"t/0/4", b"s/0/x", b"s/0/", b"\xff", b"", b"4", None])
def test_a_record_of_another_stream_is_recognised(key: bytes | None) -> None:
    assert is_of("s/0", b"s/0/4")
    assert not is_of("s/0", key)
