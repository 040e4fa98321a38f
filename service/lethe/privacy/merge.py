"""Adds the exact sums of several stopped services into the state of one."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidSetting
from lethe.evaluation.history import History
from lethe.events import Resumed
from lethe.learners.base import Learner
from lethe.learners.capabilities import Merges
from lethe.learners.state import JSON
from lethe.privacy.audit.ledger import Ledger
from lethe.privacy.audit.receipt import Receipt, Span
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.privacy.purge_backlog import merged_backlog
from lethe.privacy.stored_learner import sums_digest
from lethe.privacy.summed_state import SummedState, check_alike, check_new, open_summed
from lethe.stream.source import Position

__all__ = ["MergedStates", "merge_states"]


@dataclass(frozen=True, slots=True)
class MergedStates:
    """Result of a merge: ``samples`` are in ``checkpoint``, whose exact sums have the SHA-256 ``sums``."""

    learner: str
    samples: int
    checkpoint: Path
    sums: str


def merge_states(folders: Sequence[Path], out: Path, plugin: str | None = None) -> MergedStates:
    """Write a new state folder ``out``, whose learner has learned what those in ``folders`` have.

    The folders are locked while they are read, so their services have to be stopped. The states have to be of
    one topic, and no record may be in two of them. The new state continues at the union of their positions,
    with the settings of the first, as one service of all partitions (``stream.world`` 1): a partition that
    none of them has read is read from its beginning. Samples count, measurements begin anew. The new ledger
    begins with a receipt that names the sums and the ledger's head of each state.

    Raises InvalidFile for a folder without checkpoints or with a ledger that does not match; InvalidSetting
    for a folder in use, for a learner that has no exact sums, and, naming what differs or the partition and
    offsets, for states that cannot be added; in all these cases ``out`` holds no state. Raises OSError.
    """
    check_new(out)
    states: list[SummedState] = []
    learner: Learner | None = None
    for folder in folders:
        with open_summed(folder, plugin) as (state, own):
            _check_whole(state)
            if learner is None:
                learner = own
            else:
                check_alike(states[0], state)
                cast("Merges", learner).merge(state.checkpoint.learner)
            states.append(state.without_tensors())
    if learner is None or len(states) == 1:
        raise InvalidSetting("a merge needs two states or more")
    spans = _united(states)
    sums = sums_digest(learner)
    history = History.following([History.from_json(state.checkpoint.history) for state in states])
    with StateFolder(out, 1) as folder_out:
        ledger = Ledger(out / LEDGER)
        ledger.add(_receipt(states, spans, learner, sums))
        first = states[0].checkpoint
        checkpoint = replace(
            first,
            fingerprint={**first.fingerprint, "stream.rank": 0, "stream.world": 1},
            position=_position(states, spans),
            learner=learner.state(),
            history=history.to_json(),
            counts=_counts(states),
            samples=history.samples,
            timing=_timing(states),
            drift=None,
            predictions=None,
            ledger=_stored(ledger, states),
        )
        folder_out.write(checkpoint)
        ledger.force(ledger.mark)  # after a crash before this line, the checkpoint holds the receipt
    return MergedStates(learner.name, history.samples, checkpoint_files(out)[-1], sums)


def _check_whole(state: SummedState) -> None:
    if state.learned.subtracted:
        raise InvalidSetting(
            f"{state.folder} is what a subtraction or an older learner left, at offsets that it still counts "
            "as learned: merge the states that it was made of instead"
        )


def _united(states: Sequence[SummedState]) -> Mapping[int, Span]:
    """Return the span of each partition that all states have learned together.

    Raises InvalidSetting, naming topic, partition and offsets, for records in two states, and for records in
    none between those of two.
    """
    every = [(span, state.folder) for state in states for span in state.learned.spans.values()]
    united: dict[int, tuple[Span, Path]] = {}
    for span, folder in sorted(every, key=lambda one: (one[0].partition, one[0].first, one[0].next)):
        if span.first == span.next:
            continue
        before, other = united.get(span.partition, (replace(span, next=span.first), folder))
        where = f"topic {states[0].learned.topic}, partition {span.partition}"
        if span.first < before.next:
            until = min(span.next, before.next) - 1
            raise InvalidSetting(
                f"{where}: offsets {span.first} to {until} were learned by {other} and by {folder}; merged, "
                "they would count twice"
            )
        if span.first > before.next:
            raise InvalidSetting(
                f"{where}: offsets {before.next} to {span.first - 1} lie between those of {other} and those "
                f"of {folder} and were learned by neither; a merged state could not go back to them"
            )
        united[span.partition] = replace(before, next=span.next), folder
    return {partition: span for partition, (span, _) in united.items()}


def _position(states: Sequence[SummedState], spans: Mapping[int, Span]) -> Position:
    """Return where learning continues: behind the spans, elsewhere where a state would have begun."""
    positions = [state.checkpoint.position for state in states]
    begins: dict[int, int] = {}
    for position in positions:
        for partition, offset in position.offsets.items():
            begins[partition] = min(offset, begins.get(partition, offset))
    offsets = begins | {partition: span.next for partition, span in spans.items()}
    ends, reported = (
        _highest(named) for named in zip(*((p.ends, p.reported) for p in positions), strict=True)
    )
    topic_id = next((p.topic_id for p in positions if p.topic_id is not None), None)
    labels: dict[int, int] = {}
    for position in positions:
        for partition, offset in position.labels.items():
            labels[partition] = min(offset, labels.get(partition, offset))
    classes = max((position.classes for position in positions), key=len)
    # no label is settled: one that a state has dropped may be that of another's next sample
    return Position(offsets, 0, topic_id, ends, reported, classes, labels)


def _highest(mappings: Iterable[Mapping[int, int]]) -> Mapping[int, int]:
    highest: dict[int, int] = {}
    for mapping in mappings:
        highest |= {p: max(offset, highest.get(p, 0)) for p, offset in mapping.items()}
    return highest


def _receipt(
    states: Sequence[SummedState], spans: Mapping[int, Span], learner: Learner, sums: str
) -> Receipt:
    counts = _counted(states)
    offsets = sum(span.next - span.first for span in spans.values())
    policies = frozenset[str | None]().union(*(state.policies for state in states))
    return Receipt(
        kind="merge",
        topic=states[0].learned.topic,
        spans=tuple(spans[partition] for partition in sorted(spans)),
        received=counts.received,
        learned=counts.learned,
        unlabelled=counts.unlabelled,
        dead_lettered=sum(counts.dead.values()),
        lost=counts.lost,
        skipped=offsets - counts.received - counts.lost,
        erased=sum(state.learned.erased for state in states),
        learned_at=min((state.learned_at for state in states if state.learned_at), default=0.0),
        discarded_at=round(time.time(), 6),
        retention=learner.retains.value,
        policy=next(iter(policies)) if len(policies) == 1 else None,
        sums_after=sums,
        states=tuple(state.about for state in states),
    )


def _counted(states: Iterable[SummedState]) -> Resumed:
    each = [Resumed(**cast("dict[str, Any]", state.checkpoint.counts)) for state in states]
    dead = sum((Counter(counts.dead) for counts in each), Counter[str]())
    dropped = sum((Counter(counts.labels_dropped) for counts in each), Counter[str]())
    return Resumed(
        sum(counts.received for counts in each),
        sum(counts.learned for counts in each),
        dict(dead),
        sum(counts.lost for counts in each),
        unlabelled=sum(counts.unlabelled for counts in each),
        labels_joined=sum(counts.labels_joined for counts in each),
        labels_dropped=dict(dropped),
    )


def _counts(states: Iterable[SummedState]) -> JSON:
    return cast("JSON", asdict(_counted(states)))


def _timing(states: Iterable[SummedState]) -> JSON:
    """Return no durations, which several services do not have together, but when rules were last violated."""
    each = [cast("dict[str, Any]", state.checkpoint.timing or {}) for state in states]
    violated: dict[str, JSON] = {}
    for timing in each:
        for rule, at in timing.get("violated", {}).items():
            violated[rule] = max(at, cast("float", violated.get(rule, at)))
    latest = {
        name: max((at for timing in each if (at := timing.get(name)) is not None), default=None)
        for name in ("progressed", "lost_at")
    }
    return {"seconds": 0.0, "evaluation_seconds": 0.0, "marks": [], "violated": violated, **latest}


def _stored(ledger: Ledger, states: Iterable[SummedState]) -> JSON:
    backlogs = [cast("dict[str, Any]", state.checkpoint.ledger).get("unpurged") for state in states]
    return {
        "sequence": ledger.mark.sequence,
        "head": ledger.mark.head,
        "pending": list(ledger.pending),
        "unpurged": merged_backlog(backlogs),
        "kept": None,
    }
