"""Records that are learned and not purged: how many, since when, across restarts, in bounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.learners.state import JSON
from lethe.privacy.purge_backlog import MOST_ENTRIES, PurgeBacklog, merged_backlog
from tests.support.clocks import Clock


class Clocks(Clock):
    """The clocks of the object under test."""

    def unpurged(self, within: float = 60.0, since: JSON = None) -> PurgeBacklog:
        return PurgeBacklog(within, since, lambda: self.now, lambda: self.date)


@pytest.fixture
def clock() -> Clocks:
    return Clocks()


def test_a_learned_record_is_in_the_backlog_until_the_log_begins_after_it(clock: Clocks) -> None:
    unpurged = clock.unpurged()
    assert (unpurged.lag().seconds, unpurged.lag().records) == (0, 0)
    unpurged.purged({0: 0})
    unpurged.learned({0: 64})
    clock.wait(10)
    unpurged.learned({0: 128})
    clock.wait(5)
    assert (unpurged.lag().seconds, unpurged.lag().records, unpurged.lag().overdue) == (15, 128, False)
    assert unpurged.purged({0: 64}) == {0: 64}
    assert (unpurged.lag().seconds, unpurged.lag().records) == (5, 64)
    clock.wait(56)
    assert unpurged.lag().overdue
    assert unpurged.purged({0: 500}) == {0: 128}  # the rest is not ours to note
    assert (unpurged.lag().seconds, unpurged.lag().records) == (0, 0)


def test_the_remaining_part_of_a_span_is_in_the_backlog(clock: Clocks) -> None:
    unpurged = clock.unpurged()
    unpurged.learned({0: 64, 1: 64})
    clock.wait(5)
    assert unpurged.purged({0: 64, 1: 63}) == {0: 64, 1: 63}
    assert (unpurged.lag().seconds, unpurged.lag().records) == (5, 1)


def test_records_deleted_before_learning_began_are_not_recorded_as_a_purge(clock: Clocks) -> None:
    unpurged = clock.unpurged()
    assert unpurged.purged({0: 5000}) == {}
    unpurged.learned({0: 5064})
    assert unpurged.lag().records == 64


def test_a_restart_continues_with_the_backlog_and_counts_the_time_in_between(clock: Clocks) -> None:
    before = clock.unpurged()
    before.purged({0: 32})
    before.learned({0: 64})
    clock.wait(20)
    kept = before.snapshot()
    clock.wait(15)
    after = clock.unpurged(since=kept)
    assert not after.answered
    assert after.lag().seconds == pytest.approx(35)
    assert after.lag().records == 32


def test_a_jump_of_the_wall_clock_changes_nothing_while_the_service_runs(clock: Clocks) -> None:
    unpurged = clock.unpurged()
    unpurged.learned({0: 64})
    clock.date += 3600
    assert unpurged.lag().seconds == 0


def test_without_any_purge_memory_stays_bounded_and_the_oldest_is_known(clock: Clocks) -> None:
    unpurged = clock.unpurged()
    for batch in range(1, 3 * MOST_ENTRIES):
        unpurged.learned({0: 64 * batch})
        clock.wait(1)
    assert unpurged.lag().seconds == 3 * MOST_ENTRIES - 1
    assert unpurged.lag().records == 64 * (3 * MOST_ENTRIES - 1)
    assert len(str(unpurged.snapshot())) < 40 * MOST_ENTRIES


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 50), st.floats(0, 5)), max_size=40))
def test_the_lag_is_never_less_than_the_oldest_records_age(
    steps: list[tuple[bool, int, float]],
) -> None:
    clock = Clocks()
    unpurged = clock.unpurged(within=10.0)
    learned: list[float] = []  # when each record was
    start = 0
    for learns, count, seconds in steps:
        if learns:
            learned += [clock.now] * count
            unpurged.learned({0: len(learned)})
        else:
            start = min(start + count, len(learned))
            unpurged.purged({0: start})
        clock.wait(seconds)
        oldest = clock.now - learned[start] if start < len(learned) else 0.0
        lag = unpurged.lag()
        assert lag.records == len(learned) - start
        assert lag.seconds >= oldest - 1e-9
        assert lag.records or not lag.seconds


def test_the_backlogs_of_merged_services_are_one(clock: Clocks) -> None:
    one, other = clock.unpurged(), clock.unpurged()
    one.purged({0: 5})
    one.learned({0: 64})
    clock.wait(10)
    other.learned({1: 32})
    clock.wait(5)
    both = clock.unpurged(since=merged_backlog([one.snapshot(), None, other.snapshot()]))
    assert (both.lag().seconds, both.lag().records) == (15, 59 + 32)
    assert both.purged({0: 64, 1: 0}) == {0: 64}
    assert (both.lag().seconds, both.lag().records) == (5, 32)
    assert merged_backlog([None, None]) is None
