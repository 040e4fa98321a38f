"""Properties of the batcher: the same records make the same batches, however the network delivers them."""

from hypothesis import given
from hypothesis import strategies as st

from lethe.errors import BrokerUnavailable
from tests.support.batches import Made, Rig, bad, good
from tests.support.sources import Letters, MemoryRecord, Step


def rotation(logs: dict[int, list[MemoryRecord]]) -> list[MemoryRecord]:
    """The merged stream by its definition: record i comes from partition i mod n."""
    merged: list[MemoryRecord] = []
    shortest = min(len(records) for records in logs.values())
    for row in zip(*(logs[p][: shortest + 1] for p in sorted(logs)), strict=False):
        merged += row
    for p in sorted(logs):  # the row in which the first partition has run dry
        if len(logs[p]) == shortest:
            return merged
        merged.append(logs[p][shortest])
    raise AssertionError("one partition is the shortest")


def same(one: list[Made], other: list[Made]) -> bool:
    """Whether the batches hold the same, whenever they came and however many were to follow."""

    def content(made: Made) -> tuple[object, ...]:
        filled = made.filled
        taken = (filled.received, filled.dead, filled.lost)
        return made.samples, made.labels, filled.position, filled.segments, taken

    return [content(made) for made in one] == [content(made) for made in other]


PARTITIONS = st.integers(1, 4)


@st.composite
def topics(draw: st.DrawFn) -> dict[int, list[MemoryRecord]]:
    """1 to 4 partitions of good and bad records, some offsets missing."""
    logs: dict[int, list[MemoryRecord]] = {}
    for p in range(draw(PARTITIONS)):
        kinds = draw(st.lists(st.sampled_from(["good", "good", "good", "a", "b", "bad", "gap"]), max_size=25))
        logs[p] = [
            bad(p, offset) if kind == "bad" else good(p, offset, None if kind == "good" else kind)
            for offset, kind in enumerate(kinds)
            if kind != "gap"
        ]
    return logs


STEPS = st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=5), max_size=30)
TROUBLED = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=5)
    | st.builds(BrokerUnavailable, st.just("gone")),
    max_size=30,
)
TROUBLES = st.lists(st.none() | st.builds(BrokerUnavailable, st.just("gone")), max_size=12)


@given(logs=topics(), script=STEPS, size=st.integers(1, 7))
def test_the_same_records_make_the_same_batches_in_any_chunks(
    logs: dict[int, list[MemoryRecord]], script: list[Step], size: int
) -> None:
    batches = Rig(logs, script, size=size).batches()
    assert same(batches, Rig(logs, size=size).batches())
    expected = [(r.partition, r.offset) for r in rotation(logs) if r.value is not None]
    whole = len(expected) // size * size
    assert [origin for made in batches for origin in made.samples] == expected[:whole]
    assert all(len(made.samples) == made.filled.samples == size for made in batches)
    assert all(made.labels == [offset % 10 for _, offset in made.samples] for made in batches)


@given(logs=topics(), script=STEPS, more=STEPS, size=st.integers(1, 5), data=st.data())
def test_a_run_resumed_at_any_batch_continues_at_the_next_record(
    logs: dict[int, list[MemoryRecord]], script: list[Step], more: list[Step], size: int, data: st.DataObject
) -> None:
    whole = Rig(logs, script, size=size).batches()
    split = data.draw(st.integers(0, len(whole)))
    position = whole[split - 1].filled.position if split else None
    assert same(Rig(logs, more, size=size, position=position).batches(), whole[split:])


@given(logs=topics(), script=TROUBLED, on_send=TROUBLES, on_flush=TROUBLES, size=st.integers(1, 5))
def test_a_broker_that_comes_and_goes_loses_nothing_and_repeats_nothing(
    logs: dict[int, list[MemoryRecord]],
    script: list[Step],
    on_send: list[Exception | None],
    on_flush: list[Exception | None],
    size: int,
) -> None:
    calm = Rig(logs, size=size)
    troubled = Rig(logs, script, size=size, letters=Letters(on_send, on_flush))
    assert same(troubled.batches(), calm.batches())
    assert troubled.letters.sent == calm.letters.sent


@given(logs=topics(), script=STEPS, size=st.integers(1, 5))
def test_every_record_before_a_position_is_a_sample_a_dead_letter_or_lost(
    logs: dict[int, list[MemoryRecord]], script: list[Step], size: int
) -> None:
    rig = Rig(logs, script, size=size)
    batches = rig.batches()
    taken = sum(made.filled.samples + sum(made.filled.dead.values()) for made in batches)
    assert taken == sum(made.filled.received for made in batches)
    if batches:
        passed = sum(batches[-1].filled.position.offsets.values())
        assert passed == taken + sum(made.filled.lost for made in batches)
        reported = {(p, offset) for p, offset, _ in rig.letters.acknowledged}
        offsets = batches[-1].filled.position.offsets
        assert reported >= {
            (r.partition, r.offset)
            for records in logs.values()
            for r in records
            if not r.value and r.offset < offsets[r.partition]
        }


@given(logs=topics(), script=STEPS, size=st.integers(1, 5), stop_after=st.integers(1, 40))
def test_a_run_ends_after_the_given_records_valid_malformed_and_lost(
    logs: dict[int, list[MemoryRecord]], script: list[Step], size: int, stop_after: int
) -> None:
    batches = Rig(logs, script, size=size, stop_after=stop_after).batches()
    endless = Rig(logs, size=size).batches()
    counted = [made.filled.received + made.filled.lost for made in batches]
    assert [made.filled.last for made in batches[:-1]] == [False] * len(batches[:-1])
    if batches and batches[-1].filled.last:
        # a gap may reach beyond the number asked for, the batch before it may not
        assert sum(counted[:-1]) < stop_after <= sum(counted)
        assert same(batches[:-1], endless[: len(batches) - 1])
    else:
        assert same(batches, endless)
