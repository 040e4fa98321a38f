"""Verifies that a ledger proves that each record was learned once and discarded as promised."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from lethe.errors import InvalidFile
from lethe.learners.base import Retention
from lethe.privacy.audit.heads import WitnessedHeads
from lethe.privacy.audit.ledger import Entry, LedgerMark
from lethe.privacy.audit.receipt import Receipt
from lethe.privacy.policy import Policy

__all__ = ["CheckpointTotals", "Finding", "Verdict", "audit"]

COUNTS: Final = ("received", "learned", "unlabelled", "dead_lettered", "lost")
COUNTING: Final = frozenset({"batch", "merge", "recreation"})
"""Kinds of receipts that count records."""
SLACK: Final = 0.1
"""Tolerance for the order of times, in seconds: clocks are adjusted while times are taken."""
AHEAD: Final = 60.0
"""Seconds by which the clock of the service may be ahead of this machine's."""
MOST_UNDONE: Final = 1 << 17
"""Maximum number of batches that a rollback can undo in the verification."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One question about the ledger, and its answer."""

    question: str
    passed: bool
    answer: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings of a verification."""

    receipts: int
    learned: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every finding passed."""
        return all(finding.passed for finding in self.findings)


@dataclass(frozen=True, slots=True)
class CheckpointTotals:
    """Totals in the newest checkpoint, which the receipts up to its ``mark`` must add up to."""

    mark: LedgerMark
    topic: str
    offsets: Mapping[int, int]
    """First offset of each partition that was not learned."""
    received: int
    learned: int
    dead_lettered: int
    lost: int
    unlabelled: int = 0


def audit(
    entries: Iterable[Entry],
    policy: Policy | None = None,
    known: CheckpointTotals | None = None,
    starts: Mapping[int, int] | None = None,
    now: float | None = None,
    head: LedgerMark | None = None,
    witnessed: WitnessedHeads | None = None,
) -> Verdict:
    """Verify a ledger, and compare it with what else is given.

    ``known`` are the newest checkpoint's totals, ``starts`` the first offset of each partition in the
    broker, ``head`` a receipt that somebody noted, and ``witnessed`` the heads recorded at a witness. ``now``
    is the time of the verification, in seconds since 1970. A broken chain is a finding, not an error.
    """
    wanted = {line.mark for line in witnessed.lines} if witnessed is not None else set()
    wanted |= {head} if head is not None else set()
    tally = _Tally(policy, known, wanted, time.time() if now is None else now)
    broken = ""
    try:
        for entry in entries:
            tally.take(entry)
    except InvalidFile as error:
        broken = str(error)
    findings = [
        Finding("Is the chain of receipts unbroken?", not broken, broken or f"{tally.count} receipts")
    ]
    if policy is not None and not tally.count and not broken:
        nothing = known is not None and known.mark == LedgerMark()
        answer = "none, and nothing was learned yet" if nothing else "none at all"
        findings.append(Finding("Are there receipts?", nothing, answer))
    if known is not None:
        reaches, mark = tally.differences is not None, known.mark
        answer = f"receipt {mark.sequence} is {'in it' if reaches else 'missing or different'}"
        findings.append(Finding("Does it reach as far as the newest checkpoint?", reaches, answer))
    if known is not None and tally.differences is not None:
        answer = "; ".join(tally.differences) or f"{known.learned} samples learned, and every offset"
        question = "Does it add up to what the newest checkpoint counts?"
        findings.append(Finding(question, not tally.differences, answer))
    if head is not None:
        there = head in tally.found
        answer = f"receipt {head.sequence} is {'in it' if there else 'missing or different'}"
        findings.append(Finding("Does it contain the noted head?", there, answer))
    if witnessed is not None:
        findings.append(_witness_finding(witnessed, tally))
    findings += tally.findings(starts)
    return Verdict(tally.count, tally.learned, tuple(findings))


def _witness_finding(witnessed: WitnessedHeads, tally: "_Tally") -> Finding:
    """Compare the heads recorded at a witness with the ledger."""
    question = "Does it match the heads at the witness?"
    of_folder = [line for line in witnessed.lines if line.folder == witnessed.folder]
    ours = [line for line in of_folder if line.ledger == tally.name]
    others = [line for line in of_folder if line.ledger != tally.name]
    foreign = len(witnessed.lines) - len(of_folder)
    missing = [line.mark for line in ours if line.mark not in tally.found]
    newest = max((line.mark.sequence for line in ours), default=0)
    if missing:
        answer = f"receipt {missing[-1].sequence} is different or missing: {len(missing)} heads do not match"
    elif others and (not ours or others[-1].at > ours[-1].at):
        answer = f"its newest head of this folder, of {_when(others[-1].at)}, is of another ledger"
    elif not ours and tally.count:
        answer = f"it has no head of this ledger; folder {witnessed.folder}, {foreign} heads of other folders"
    else:
        answer = f"{len(ours)} heads up to receipt {newest} of {tally.count}, folder {witnessed.folder}"
        return Finding(question, passed=True, answer=answer)
    return Finding(question, passed=False, answer=answer)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at)) + " UTC"


@dataclass(frozen=True, slots=True)
class _Learned:
    """What a rollback undoes: a batch, or that a topic was created again."""

    sequence: int
    topic: str
    firsts: Mapping[int, int]
    ends: Mapping[int, int]
    counts: Counter[str]
    before: Mapping[tuple[str, int], int] | None = None
    """Next offset of every partition before the topic was created again."""


class _Tally:
    """Adds up the receipts of a ledger and collects what is wrong with them."""

    def __init__(
        self, policy: Policy | None, known: CheckpointTotals | None, wanted: Iterable[LedgerMark], now: float
    ) -> None:
        self._policy, self._known, self._now = policy, known, now
        self.count = 0
        self.name = ""
        """What identifies the ledger at a witness: the hash of its first receipt."""
        self._wanted = frozenset(wanted)
        self.found: set[LedgerMark] = set()
        """The wanted marks that are in the ledger."""
        self.differences: list[str] | None = None
        """Differences from the checkpoint's totals; None if its mark is not in the ledger."""
        self._counts: Counter[str] = Counter()
        self._live: deque[_Learned] = deque(maxlen=MOST_UNDONE)
        self._at = 0.0
        self._steps: list[float] = []
        self._untimely: list[str] = []
        self._early: list[str] = []
        self._next: dict[tuple[str, int], int] = {}
        self._purged: dict[tuple[str, int], int] = {}
        self._unpurged: list[tuple[str, int, int, float]] = []
        self._kept: list[tuple[str, int, int, float]] = []
        self._longest_kept = 0.0
        self._erased = self._expired = self._brought_back = 0
        self._restored: list[tuple[int, int]] = []
        """The restorations that no rollback undid: the number of each receipt and its samples."""
        self._parts: list[str] = []
        """The heads of the ledgers of the states that were merged."""
        self._gaps: list[str] = []
        self._unbalanced: list[str] = []
        self._longest = 0.0
        self._latest_purge = 0.0
        self._retained: set[str] = set()
        self._policies: set[str | None] = set()
        self._compare(LedgerMark())

    @property
    def learned(self) -> int:
        """Samples learned, without those that a rollback unlearned."""
        return self._counts["learned"]

    def _compare(self, mark: LedgerMark) -> None:
        """At the newest checkpoint's mark, collect the differences from its totals."""
        known = self._known
        if known is None or mark != known.mark:
            return
        self.differences = [
            f"{name.replace('_', '-')}: the receipts say {self._counts[name]}, the checkpoint {counted}"
            for name in COUNTS
            if (counted := getattr(known, name)) != self._counts[name]
        ]
        for (topic, partition), offset in sorted(self._next.items()):
            if topic != known.topic:
                self.differences.append(f"receipts are of topic {topic}, the checkpoint is of {known.topic}")
            elif known.offsets.get(partition) != offset:
                expected = known.offsets.get(partition, "nowhere")
                self.differences.append(
                    f"partition {partition}: the receipts end at {offset}, "
                    f"the checkpoint continues at {expected}"
                )

    def take(self, entry: Entry) -> None:
        receipt, sequence = entry.receipt, entry.mark.sequence
        self.count += 1
        self.name = self.name or entry.mark.head
        if entry.mark in self._wanted:
            self.found.add(entry.mark)
        self._time(receipt, sequence)
        self._retained.add(receipt.retention)
        self._policies.add(receipt.policy)
        match receipt.kind:
            case "batch":
                self._take_batch(receipt, sequence)
            case "merge":
                self._take_merge(receipt, sequence)
            case "subtraction":
                self._erased += receipt.erased
                self._take_unlearned(receipt, sequence)
            case "restoration":
                self._restored.append((sequence, receipt.erased))
                self._take_unlearned(receipt, sequence)
            case "rollback":
                self._take_rollback(receipt, sequence)
            case "purge":
                self._take_purge(receipt, sequence)
            case "expiry":
                self._take_expiry(receipt)
            case "recreation":
                self._take_recreation(receipt, sequence)
            case "erasure":
                self._erased += receipt.erased
                self._brought_back = max(0, self._brought_back - receipt.erased)
        if receipt.kind not in COUNTING and any(getattr(receipt, name) for name in COUNTS):
            self._unbalanced.append(f"receipt {sequence}: a {receipt.kind} that counts records")
        self._compare(entry.mark)

    def _time(self, receipt: Receipt, sequence: int) -> None:
        """Collect times that run backwards or lie in the future."""
        if receipt.kind == "batch":
            order = [receipt.received_at, receipt.learned_at, receipt.discarded_at]
        else:
            order = [receipt.received_at, receipt.discarded_at]
        if any(later < earlier - SLACK for earlier, later in pairwise(order)):
            self._untimely.append(f"receipt {sequence}: received, learned, discarded in another order")
        if receipt.discarded_at < self._at + receipt.clock_step - SLACK:
            back = self._at - receipt.discarded_at
            self._untimely.append(f"receipt {sequence}: {back:.1f} s before the one before it")
        if receipt.clock_step < 0:
            self._steps.append(-receipt.clock_step)
        if max(order) > self._now + AHEAD:
            self._untimely.append(f"receipt {sequence}: of {_when(max(order))}, which is in the future")
        self._at = receipt.discarded_at

    def _count(self, receipt: Receipt) -> Counter[str]:
        counts = Counter({name: getattr(receipt, name) for name in COUNTS})
        self._counts.update(counts)
        return counts

    def _take_batch(self, receipt: Receipt, sequence: int) -> None:
        self._take_records(receipt, sequence)
        added = sum(span.next - span.first for span in receipt.regimes)
        if receipt.regimes and added != receipt.learned:
            self._unbalanced.append(
                f"receipt {sequence}: {added} samples were added to regimes, {receipt.learned} learned"
            )
        if receipt.retention == Retention.SAMPLES and receipt.learned:
            self._kept += [
                (receipt.topic, span.partition, span.next, receipt.received_at) for span in receipt.spans
            ]
        self._longest = max(self._longest, receipt.discarded_at - receipt.received_at)

    def _take_records(self, receipt: Receipt, sequence: int) -> None:
        for span in receipt.spans:
            place = receipt.topic, span.partition
            expected = self._next.get(place, span.first)
            if span.first != expected:
                what = "again" if span.first < expected else "after a gap"
                self._gaps.append(f"receipt {sequence}: {place[0]}/{place[1]} from {span.first} {what}")
            self._next[place] = span.next
            self._unpurged.append((*place, span.next, receipt.learned_at))
        offsets = sum(span.next - span.first for span in receipt.spans)
        if receipt.received + receipt.lost + receipt.skipped != offsets:
            self._unbalanced.append(f"receipt {sequence}: {offsets} offsets, {receipt.received} received")
        if receipt.learned + receipt.unlabelled + receipt.dead_lettered != receipt.received:
            self._unbalanced.append(
                f"receipt {sequence}: received is not learned + unlabelled + dead-lettered"
            )
        if receipt.joined > receipt.learned:
            self._unbalanced.append(f"receipt {sequence}: {receipt.joined} joined, {receipt.learned} learned")
        firsts = {span.partition: span.first for span in receipt.spans}
        ends = {span.partition: span.next for span in receipt.spans}
        self._live.append(_Learned(sequence, receipt.topic, firsts, ends, self._count(receipt)))

    def _take_merge(self, receipt: Receipt, sequence: int) -> None:
        self._take_records(receipt, sequence)
        self._erased += receipt.erased
        self._parts += [f"{state.sequence}:{state.head}" for state in receipt.states]
        if sequence > 1:
            self._gaps.append(f"receipt {sequence}: a merge after other receipts")

    def _take_unlearned(self, receipt: Receipt, sequence: int) -> None:
        for span in receipt.spans:
            if span.next > self._next.get((receipt.topic, span.partition), 0):
                where = f"{receipt.topic}/{span.partition} up to {span.next}"
                self._gaps.append(f"receipt {sequence}: a {receipt.kind} of {where}, which was never learned")

    def _take_purge(self, receipt: Receipt, sequence: int) -> None:
        for span in receipt.spans:
            place = receipt.topic, span.partition
            if span.next > self._next.get(place, span.next):
                self._early.append(f"receipt {sequence}: {place[0]}/{place[1]} up to {span.next}")
            self._purged[place] = span.next
        waiting = []
        for topic, partition, end, learned_at in self._unpurged:
            if end <= self._purged.get((topic, partition), 0):
                self._latest_purge = max(self._latest_purge, receipt.discarded_at - learned_at)
            else:
                waiting.append((topic, partition, end, learned_at))
        self._unpurged = waiting

    def _take_rollback(self, receipt: Receipt, sequence: int) -> None:
        """Undo what was learned after the checkpoint that the run went back to."""
        firsts = {(receipt.topic, span.partition): span.first for span in receipt.spans}
        expected = self._next | firsts
        while self._live and self._goes_back_before(receipt, self._live[-1]):
            undone = self._live.pop()
            self._counts.subtract(undone.counts)
            if undone.before is not None:
                self._next = dict(undone.before)
                expected = self._next | firsts
            self._next |= {(undone.topic, partition): first for partition, first in undone.firsts.items()}
        wrong = [place for place, offset in expected.items() if self._next.get(place, offset) != offset]
        if wrong or (receipt.back_to or 0) >= sequence:
            where = ", ".join(f"{topic}/{partition}" for topic, partition in wrong[:3])
            self._gaps.append(f"receipt {sequence}: a rollback of {where} to offsets where it never was")
        self._next |= firsts
        if (back_to := receipt.back_to) is not None:
            self._restored = [(number, samples) for number, samples in self._restored if number <= back_to]
        self._kept = [kept for kept in self._kept if kept[2] <= firsts.get(kept[:2], kept[2])]
        self._brought_back += receipt.erased

    @staticmethod
    def _goes_back_before(rollback: Receipt, learned: _Learned) -> bool:
        if rollback.back_to is not None:
            return learned.sequence > rollback.back_to
        firsts = {
            span.partition: span.first for span in rollback.spans
        }  # written by a version without back_to
        return learned.topic == rollback.topic and any(
            end > firsts.get(partition, end) for partition, end in learned.ends.items()
        )

    def _take_recreation(self, receipt: Receipt, sequence: int) -> None:
        """Forget the topic's old records; none of the new ones was learned yet."""
        self._live.append(_Learned(sequence, receipt.topic, {}, {}, self._count(receipt), self._next))
        if receipt.received != receipt.dead_lettered or receipt.learned or receipt.unlabelled or receipt.lost:
            self._unbalanced.append(f"receipt {sequence}: a recreation counts dead letters alone")
        self._next = {place: offset for place, offset in self._next.items() if place[0] != receipt.topic}
        self._next |= {(receipt.topic, span.partition): span.first for span in receipt.spans}
        self._purged = {place: end for place, end in self._purged.items() if place[0] != receipt.topic}
        self._unpurged = [waiting for waiting in self._unpurged if waiting[0] != receipt.topic]
        self._kept = [(t, p, 0 if t == receipt.topic else end, at) for t, p, end, at in self._kept]

    def _take_expiry(self, receipt: Receipt) -> None:
        self._expired += receipt.erased
        self._longest_kept = max(self._longest_kept, receipt.discarded_at - receipt.received_at)
        ends = {(receipt.topic, span.partition): span.next for span in receipt.spans}
        self._kept = [kept for kept in self._kept if kept[2] > ends.get(kept[:2], 0)]

    def findings(self, starts: Mapping[int, int] | None) -> Iterator[Finding]:
        """Answer every question that the receipts, the policy and the broker allow to be asked."""
        once = f"{self.learned} samples, every offset once" if not self._gaps else "; ".join(self._gaps[:3])
        yield Finding("Was each record learned once, and none left out?", not self._gaps, once)
        if self._parts:
            answer = f"in the ledgers that end with {', '.join(self._parts)}: audit them with --head"
            yield Finding("Where are the receipts from before the merge?", passed=True, answer=answer)
        balance = (
            "; ".join(self._unbalanced[:3])
            or "received = learned + unlabelled + dead-lettered, in every receipt"
        )
        yield Finding("Is every record accounted for?", not self._unbalanced, balance)
        times = "; ".join(self._untimely[:3]) or "in every receipt, and from one to the next"
        if self._steps:
            times += f"; the clock was set back {len(self._steps)} times, by {max(self._steps):.1f} s at most"
        yield Finding("Do the times run forwards?", not self._untimely, times)
        if self._purged:
            early = "; ".join(self._early[:3]) or "no offset that was not learned"
            yield Finding("Was nothing purged before it was learned?", not self._early, early)
        if self._erased or self._brought_back:
            possible = not self._brought_back and self._erased <= self.learned
            answer = f"{self._erased} of {self.learned} learned samples were erased"
            if self._brought_back:
                answer += f"; {self._brought_back} of them were restored with an older checkpoint"
            yield Finding("Are the erased samples still erased?", possible, answer)
        if self._restored:
            unlearned = sum(samples for _, samples in self._restored)
            answer = (
                f"{unlearned} of {self.learned} learned samples, when older states of the learner returned"
            )
            yield Finding("What was unlearned otherwise?", unlearned <= self.learned, answer)
        if self._policy is not None:
            yield from self._policy_findings(self._policy)
        if starts is not None:
            served = {p: end for (_, p), end in self._purged.items() if starts.get(p, 0) < end}
            answer = f"still serves offsets before {served}" if served else "serves nothing that was purged"
            yield Finding("Does the broker still serve what was purged?", not served, answer)

    def _policy_findings(self, policy: Policy) -> Iterator[Finding]:
        named = self._policies <= {policy.digest}
        answer = f"policy {policy.name}" if named else "some receipts name another policy, or none"
        yield Finding("Was this policy in force all the time?", named, answer)
        kept = sorted(self._retained)
        within = set(kept) <= {retention.value for retention in Retention if policy.allows(retention)}
        yield Finding(
            "Was no more retained than is allowed?", within, ", ".join(kept) or "nothing learned yet"
        )
        limit = policy.residency_seconds
        if limit is not None:
            answer = f"{self._longest:.2f} s at the longest, {limit:g} s are allowed"
            yield Finding("Was every sample discarded in time?", self._longest <= limit, answer)
        if policy.samples is not None and (self._kept or self._expired):
            yield self._deleted_in_time(policy.samples.ttl_seconds)
        if policy.purge is not None:
            yield self._purged_in_time(policy.purge.within_seconds)

    def _deleted_in_time(self, ttl: float) -> Finding:
        waiting = max((self._now - received_at for *_, received_at in self._kept), default=0.0)
        longest = max(self._longest_kept, waiting)
        answer = f"{longest:.0f} s at the longest, {ttl:g} s are allowed; {self._expired} deleted"
        return Finding("Was no sample kept for too long?", longest <= ttl, answer)

    def _purged_in_time(self, within: float) -> Finding:
        waiting = max((self._now - learned_at for *_, learned_at in self._unpurged), default=0.0)
        longest = max(self._latest_purge, waiting)
        answer = (
            f"{longest:.0f} s at the longest, {within:g} s are allowed; {len(self._unpurged)} spans to go"
        )
        return Finding("Were learned records purged in time?", longest <= within, answer)
