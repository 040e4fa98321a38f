"""The receipt of a batch, a purge, an erasure or a merge: its fields, and what a valid one contains.

A receipt states where samples came from, how many there were, when they were received, learned and discarded,
and under which policy; nothing in it identifies a sample.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from lethe.learners.base import Retention

__all__ = ["AddedState", "Receipt", "RegimeSpan", "Span", "parse_receipt", "regime_spans"]

NEWER: Final = frozenset(
    {
        "skipped",
        "back_to",
        "clock_step",
        "sums_before",
        "sums_after",
        "states",
        "regimes",
        "unlabelled",
        "joined",
    }
)
"""Fields that receipts of older versions lack."""
DIGEST: Final = re.compile("[0-9a-f]{64}")
RETENTIONS: Final = frozenset({"", *(retention.value for retention in Retention)})


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets ``first`` to ``next`` − 1 of a partition."""

    partition: int
    first: int
    next: int


@dataclass(frozen=True, slots=True)
class RegimeSpan:
    """Offsets ``first`` to ``next`` − 1 of a partition, whose samples are in the sums of ``regime``."""

    regime: int
    partition: int
    first: int
    next: int


@dataclass(frozen=True, slots=True)
class AddedState:
    """Another service's state that was added or subtracted: its exact sums, and the head of its ledger."""

    sums: str
    """SHA-256 of the sums."""
    sequence: int
    head: str
    """The newest receipt of its ledger, by number and hash: ``lethe audit --head`` finds it there."""


Kind = Literal[
    "batch", "purge", "rollback", "restoration", "expiry", "erasure", "recreation", "merge", "subtraction"
]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done with spans of records; times are in seconds since 1970.

    The kinds of receipts:

    * ``batch``: its records were received, learned and discarded.
    * ``purge``: its spans were deleted from the broker, at ``discarded_at``.
    * ``rollback``: the run continued from an older checkpoint, which unlearned its spans; they are learned
      again.
    * ``restoration``: the learner has its state of an older checkpoint again, at the position where it was.
      The ``erased`` samples of its spans are unlearned; that they were received and learned stays.
    * ``expiry``: a learner that keeps samples deleted, at ``discarded_at``, the ``erased`` samples of its
      spans that it still kept; the oldest was received at ``received_at``.
    * ``erasure``: so many samples were unlearned on request. It does not say which, because a receipt of an
      erasure must not restore what was erased.
    * ``recreation``: the topic was found deleted and created again. Its spans are empty and begin where
      learning continues; it counts the records dead-lettered before their batch was complete.
    * ``merge``: the sums of ``states``, which had learned its spans, were added; it counts what their ledgers
      count, and is the first receipt of the new ledger.
    * ``subtraction``: the sums of one other of ``states``, which had learned its spans, were subtracted. Its
      ``erased`` samples are unlearned; that they were received and learned stays.
    """

    kind: Kind
    topic: str
    spans: Sequence[Span]
    received: int = 0
    learned: int = 0
    unlabelled: int = 0
    """Samples without a label, discarded without being learned."""
    joined: int = 0
    """Of a ``batch``: those of the learned samples whose labels came later, from a topic of their own."""
    dead_lettered: int = 0
    lost: int = 0
    skipped: int = 0
    """Offsets without a record: transaction markers, and records of aborted transactions."""
    erased: int = 0
    """Samples deleted or unlearned; in a ``rollback``, those that the older checkpoint restored."""
    received_at: float = 0.0
    learned_at: float = 0.0
    discarded_at: float = 0.0
    retention: str = ""
    policy: str | None = None
    """Digest of the policy in force; None without a policy."""
    back_to: int | None = None
    """Of a ``rollback`` or ``restoration``: number of receipts before the older checkpoint."""
    clock_step: float = 0.0
    """Seconds by which the clock was set back before this receipt, as a negative number; otherwise 0."""
    sums_before: str = ""
    """Of an ``erasure``, ``subtraction`` or ``restoration``: SHA-256 of the learner's exact sums before it;
    empty for a learner without."""
    sums_after: str = ""
    """The same after it, and after a ``merge``: those of a learner that never learned what was erased."""
    regimes: Sequence[RegimeSpan] = ()
    """Of a ``batch``, for a learner that keeps sums by regime: where each of its samples was added."""
    states: Sequence[AddedState] = ()
    """Of a ``merge``: the states that it is the sum of. Of a ``subtraction``: the one that was subtracted."""


def parse_receipt(body: dict[str, Any]) -> Receipt:
    """Return the receipt in a line of a ledger; raises ValueError unless every field is present and valid."""
    names = {field.name for field in fields(Receipt)}
    if strange := body.keys() - names:
        raise ValueError(f"unknown field {min(strange)}")
    if missing := names - NEWER - body.keys():
        raise ValueError(f"field {min(missing)} is missing")
    states = tuple(map(_state, body.get("states", ())))
    regimes = tuple(map(_regime, body.get("regimes", ())))
    spans = tuple(map(_span, body["spans"]))
    receipt = Receipt(**body | {"spans": spans, "states": states, "regimes": regimes})
    counts = (
        receipt.received,
        receipt.learned,
        receipt.unlabelled,
        receipt.joined,
        receipt.dead_lettered,
        receipt.lost,
        receipt.skipped,
    )
    back_to = 0 if receipt.back_to is None else receipt.back_to
    if not all(type(count) is int and count >= 0 for count in (*counts, receipt.erased, back_to)):
        raise ValueError("a count is not a whole number from 0 on")
    times = (receipt.received_at, receipt.learned_at, receipt.discarded_at)
    if not all(type(at) is float and 0 <= at < math.inf for at in times):
        raise ValueError("a time is not a number of seconds")
    if type(receipt.clock_step) is not float or not -math.inf < receipt.clock_step <= 0:
        raise ValueError("clock_step is not a number of seconds up to 0")
    if receipt.kind not in get_args(Kind) or type(receipt.topic) is not str:
        raise ValueError(f"kind {receipt.kind!r} is unknown, or the topic is not a name")
    if receipt.retention not in RETENTIONS:
        raise ValueError(f"retention {receipt.retention!r} is unknown")
    if receipt.policy is not None and not DIGEST.fullmatch(receipt.policy):
        raise ValueError("policy is not a digest")
    if not all(
        type(sums) is str and (not sums or DIGEST.fullmatch(sums))
        for sums in (receipt.sums_before, receipt.sums_after)
    ):
        raise ValueError("sums_before or sums_after is not a digest")
    if len({span.partition for span in receipt.spans}) < len(receipt.spans):
        raise ValueError("two spans are in the same partition")
    return receipt


def regime_spans(places: Sequence[tuple[int, int]], regimes: Sequence[int]) -> tuple[RegimeSpan, ...]:
    """Return the spans of successive offsets whose samples are of one regime, by partition.

    ``places`` are partition and offset of each sample, ``regimes`` its regime; without them there are none.
    """
    runs: dict[int, list[list[int]]] = {}
    for (partition, offset), regime in zip(places, regimes, strict=bool(places and regimes)):
        own = runs.setdefault(partition, [])
        if own and own[-1][0] == regime and own[-1][2] == offset:
            own[-1][2] += 1
        else:
            own.append([regime, offset, offset + 1])
    return tuple(
        RegimeSpan(regime, partition, first, end)
        for partition in sorted(runs)
        for regime, first, end in runs[partition]
    )


def _regime(about: dict[str, Any]) -> RegimeSpan:
    span = RegimeSpan(**about)
    parts = (span.regime, span.partition, span.first, span.next)
    if not all(type(part) is int and part >= 0 for part in parts) or span.next <= span.first:
        raise ValueError("a span of a regime is not one of whole numbers from 0 on")
    return span


def _state(about: dict[str, Any]) -> AddedState:
    state = AddedState(**about)
    if type(state.sequence) is not int or state.sequence < 0:
        raise ValueError("the number of a state's receipt is not a whole number from 0 on")
    if not all(type(text) is str and DIGEST.fullmatch(text) for text in (state.sums, state.head)):
        raise ValueError("the sums or the head of a state is not a digest")
    return state


def _span(about: dict[str, Any]) -> Span:
    span = Span(**about)
    if not all(type(part) is int and part >= 0 for part in (span.partition, span.first, span.next)):
        raise ValueError("a span's partition or offset is not a whole number from 0 on")
    if span.next < span.first:
        raise ValueError(f"a span ends at {span.next}, before it begins at {span.first}")
    return span
