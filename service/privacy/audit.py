"""The audit: whether a ledger proves that each record was learned once and discarded as promised."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from service.errors import InvalidFile
from service.learners.base import Retention
from service.privacy.ledger import Entry, LedgerMark, Receipt
from service.privacy.policy import Policy

__all__ = ["Finding", "Verdict", "audit"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One question that was asked of the ledger, and its answer."""

    question: str
    passed: bool
    answer: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every finding; passed if all of them are."""

    receipts: int
    learned: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Nothing was found wanting."""
        return all(finding.passed for finding in self.findings)


def audit(
    entries: Iterable[Entry],
    policy: Policy | None = None,
    mark: LedgerMark | None = None,
    starts: Mapping[int, int] | None = None,
    now: float | None = None,
) -> Verdict:
    """Judge a ledger.

    ``mark`` is what the newest checkpoint knows of it, ``starts`` where the broker's log of each
    partition begins; each is only looked into where it is given. ``now`` is the time of judging, in
    seconds since 1970. A chain that is broken is a finding, not an error.
    """
    book = _Book(policy, mark or LedgerMark(), time.time() if now is None else now)
    broken = ""
    try:
        for entry in entries:
            book.take(entry)
    except InvalidFile as error:
        broken = str(error)
    findings = [Finding("Is the chain of receipts unbroken?", not broken, broken or f"{book.count} receipts")]
    if mark is not None:
        answer = f"receipt {mark.sequence} is {'in it' if book.reaches else 'missing or another one'}"
        findings.append(Finding("Does it reach as far as the newest checkpoint?", book.reaches, answer))
    findings += book.findings(starts)
    return Verdict(book.count, book.learned, tuple(findings))


class _Book:
    """What the receipts add up to."""

    def __init__(self, policy: Policy | None, mark: LedgerMark, now: float) -> None:
        self._policy, self._mark, self._now = policy, mark, now
        self.count = self.learned = 0
        self.reaches = mark == LedgerMark()
        self._next: dict[tuple[str, int], int] = {}
        self._purged: dict[tuple[str, int], int] = {}
        self._unpurged: list[tuple[str, int, int, float]] = []
        self._kept: list[tuple[str, int, int, float]] = []
        self._longest_kept = 0.0
        self._erased = self._expired = self._brought_back = 0
        self._gaps: list[str] = []
        self._unbalanced: list[str] = []
        self._longest = 0.0
        self._latest_purge = 0.0
        self._retained: set[str] = set()
        self._policies: set[str | None] = set()

    def take(self, entry: Entry) -> None:
        receipt, sequence = entry.receipt, entry.mark.sequence
        self.count += 1
        self.reaches |= entry.mark == self._mark
        self._retained.add(receipt.retention)
        self._policies.add(receipt.policy)
        match receipt.kind:
            case "batch":
                self._take_batch(receipt, sequence)
            case "rollback":
                self._take_rollback(receipt)
            case "purge":
                self._take_purge(receipt)
            case "expiry":
                self._take_expiry(receipt)
            case "erasure":
                self._erased += receipt.erased
                self._brought_back = max(0, self._brought_back - receipt.erased)

    def _take_batch(self, receipt: Receipt, sequence: int) -> None:
        for span in receipt.spans:
            place = receipt.topic, span.partition
            expected = self._next.get(place, span.first)
            if span.first != expected:
                what = "again" if span.first < expected else "after a gap"
                self._gaps.append(f"receipt {sequence}: {place[0]}/{place[1]} from {span.first} {what}")
            self._next[place] = span.next
            self._unpurged.append((*place, span.next, receipt.learned_at))
            if receipt.retention == Retention.SAMPLES and receipt.learned:
                self._kept.append((*place, span.next, receipt.received_at))
        offsets = sum(span.next - span.first for span in receipt.spans)
        if receipt.received + receipt.lost != offsets:
            self._unbalanced.append(f"receipt {sequence}: {offsets} offsets, {receipt.received} received")
        if receipt.learned + receipt.dead_lettered != receipt.received:
            self._unbalanced.append(f"receipt {sequence}: received is not learned + dead-lettered")
        self.learned += receipt.learned
        self._longest = max(self._longest, receipt.discarded_at - receipt.received_at)

    def _take_purge(self, receipt: Receipt) -> None:
        for span in receipt.spans:
            self._purged[receipt.topic, span.partition] = span.next
        waiting = []
        for topic, partition, end, learned_at in self._unpurged:
            if end <= self._purged.get((topic, partition), 0):
                self._latest_purge = max(self._latest_purge, receipt.discarded_at - learned_at)
            else:
                waiting.append((topic, partition, end, learned_at))
        self._unpurged = waiting

    def _take_rollback(self, receipt: Receipt) -> None:
        firsts = {(receipt.topic, span.partition): span.first for span in receipt.spans}
        self._next |= firsts
        self._kept = [kept for kept in self._kept if kept[2] <= firsts.get(kept[:2], kept[2])]
        self._brought_back += receipt.erased

    def _take_expiry(self, receipt: Receipt) -> None:
        self._expired += receipt.erased
        self._longest_kept = max(self._longest_kept, receipt.discarded_at - receipt.received_at)
        ends = {(receipt.topic, span.partition): span.next for span in receipt.spans}
        self._kept = [kept for kept in self._kept if kept[2] > ends.get(kept[:2], 0)]

    def findings(self, starts: Mapping[int, int] | None) -> Iterator[Finding]:
        """Answer every question that the receipts, the policy and the broker allow to be asked."""
        once = f"{self.learned} samples, every offset once" if not self._gaps else "; ".join(self._gaps[:3])
        yield Finding("Was each record learned once, and none left out?", not self._gaps, once)
        balance = "; ".join(self._unbalanced[:3]) or "received = learned + dead-lettered, in every receipt"
        yield Finding("Is every record accounted for?", not self._unbalanced, balance)
        if self._erased or self._brought_back:
            possible = not self._brought_back and self._erased <= self.learned
            answer = f"{self._erased} samples were, of {self.learned} learned"
            if self._brought_back:
                answer += f"; {self._brought_back} of them came back with an older checkpoint"
            yield Finding("Is what was forgotten on demand still forgotten?", possible, answer)
        if self._policy is not None:
            yield from self._held_to(self._policy)
        if starts is not None:
            served = {p: end for (_, p), end in self._purged.items() if starts.get(p, 0) < end}
            answer = f"still serves offsets before {served}" if served else "serves nothing that was purged"
            yield Finding("Does the broker still serve what was purged?", not served, answer)

    def _held_to(self, policy: Policy) -> Iterator[Finding]:
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
            yield self._let_go_in_time(policy.samples.ttl_seconds)
        if policy.purge is not None:
            yield self._purged_in_time(policy.purge.within_seconds)

    def _let_go_in_time(self, ttl: float) -> Finding:
        waiting = max((self._now - received_at for *_, received_at in self._kept), default=0.0)
        longest = max(self._longest_kept, waiting)
        answer = f"{longest:.0f} s at the longest, {ttl:g} s are allowed; {self._expired} let go of"
        return Finding("Was no sample kept for too long?", longest <= ttl, answer)

    def _purged_in_time(self, within: float) -> Finding:
        waiting = max((self._now - learned_at for *_, learned_at in self._unpurged), default=0.0)
        longest = max(self._latest_purge, waiting)
        answer = (
            f"{longest:.0f} s at the longest, {within:g} s are allowed; {len(self._unpurged)} spans to go"
        )
        return Finding("Was the broker told in time to forget?", longest <= within, answer)
