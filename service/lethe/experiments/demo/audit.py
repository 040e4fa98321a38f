"""Audits the ledger of each service at the end of a demo under a policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lethe.privacy.audit.evidence import checkpoint_totals, log_starts
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.privacy.audit.render import as_page
from lethe.privacy.audit.verify import Verdict, audit
from lethe.privacy.policy import Policy
from lethe.stream.settings import StreamSettings

__all__ = ["PAGE", "audit_services"]

PAGE: Final = "audit.html"


def audit_services(
    folder: Path, learners: Sequence[str], policy: Policy, stream: StreamSettings
) -> Mapping[str, Verdict]:
    """Return the verdict on each learner's ledger, and write it as an HTML page beside its report.

    Raises BrokerUnavailable, InvalidFile.
    """
    verdicts = {}
    for learner in learners:
        ledger = folder / learner / "state" / LEDGER
        served = log_starts(ledger, stream)
        verdicts[learner] = audit(read_entries(ledger), policy, checkpoint_totals(ledger.parent), served)
        page = as_page(verdicts[learner], str(ledger), policy)
        (folder / learner / PAGE).write_text(page, encoding="utf-8")
    return verdicts
