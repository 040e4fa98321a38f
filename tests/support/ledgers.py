"""Receipts of a run under one policy, and the audit of a ledger of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lethe.privacy.audit.evidence import checkpoint_totals
from lethe.privacy.audit.ledger import Ledger, LedgerMark, read_entries
from lethe.privacy.audit.receipt import Receipt, Span
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.privacy.audit.verify import CheckpointTotals, Verdict, audit
from lethe.privacy.policy import Policy

__all__ = ["POLICY", "batch", "failed", "known", "other", "passed_audit", "verdict_of"]

POLICY = Policy.model_validate(
    {"name": "ward", "retention": "statistics", "residency_seconds": 5, "purge": {"within_seconds": 60}}
)


def batch(first: int, **more: Any) -> Receipt:
    """64 records from offset ``first`` on, learned a second per batch."""
    at = 1e9 + first / 64
    receipt = Receipt(
        kind="batch",
        topic="images",
        spans=(Span(0, first, first + 64),),
        received=64,
        learned=64,
        received_at=at,
        learned_at=at + 0.4,
        discarded_at=at + 0.5,
        retention="statistics",
        policy=POLICY.digest,
    )
    return replace(receipt, **more)


def other(kind: Any, first: int, until: int, at: float = 1e9) -> Receipt:
    spans = (Span(0, first, until),)
    return Receipt(kind, "images", spans, discarded_at=at, retention="statistics", policy=POLICY.digest)


def verdict_of(folder: Path, *receipts: Receipt, **more: Any) -> Verdict:
    path = folder / "ledger.jsonl"
    ledger = Ledger(path)
    for receipt in receipts:
        ledger.add(receipt)
    ledger.force(ledger.mark)
    given: dict[str, Any] = {"policy": POLICY, "now": 1e9 + 30} | more
    return audit(read_entries(path), **given)


def passed_audit(state: Path, policy: Policy | None = None, **more: Any) -> Verdict:
    """Audit the ledger of a state folder against its newest checkpoint; fail unless that passes."""
    verdict = audit(read_entries(state / LEDGER), policy, checkpoint_totals(state), **more)
    assert verdict.passed, [finding for finding in verdict.findings if not finding.passed]
    return verdict


def known(mark: LedgerMark, samples: int, **more: Any) -> CheckpointTotals:
    """What a checkpoint says that was taken when so many samples of one partition had been learned."""
    stands = CheckpointTotals(mark, "images", {0: samples}, samples, samples, 0, 0)
    return replace(stands, **more)


def failed(verdict: Verdict) -> list[str]:
    return [finding.question for finding in verdict.findings if not finding.passed]
