"""How a run is divided between partitions, whichever ranks read them."""

from hypothesis import given
from hypothesis import strategies as st

from lethe.runtime.ranks.shares import Shares
from lethe.stream.source import Position

COUNTS = st.integers(0, 1000)
BEGINS = st.dictionaries(st.integers(0, 20), COUNTS, min_size=1, max_size=9)


@given(begins=BEGINS, records=COUNTS)
def test_the_partitions_give_all_records_as_evenly_as_they_can(begins: dict[int, int], records: int) -> None:
    until = Shares(begins).until(records)
    assert until is not None
    given_ = {p: until[p] - begin for p, begin in begins.items()}
    assert sum(given_.values()) == records
    assert max(given_.values()) - min(given_.values()) <= 1
    assert sorted(given_.values(), reverse=True) == [given_[p] for p in sorted(given_)], (
        "the first ones first"
    )


@given(begins=BEGINS, taken=COUNTS, more=COUNTS)
def test_what_a_single_service_left_is_what_remains(begins: dict[int, int], taken: int, more: int) -> None:
    reached = Shares(begins).until(taken)
    assert reached is not None
    shares = Shares.of_single(Position(reached), taken)
    assert shares.begins == begins
    assert shares.until(taken + more) == Shares(begins).until(taken + more)


@given(begins=BEGINS, turns=st.lists(st.integers(0, 9)))
def test_shares_survive_a_checkpoint(begins: dict[int, int], turns: list[int]) -> None:
    shares = Shares(begins).with_turns(turns)
    assert Shares.from_json(shares.to_json()) == shares


def test_a_run_without_end_has_no_shares_of_it() -> None:
    assert Shares({0: 0}).until(None) is None
