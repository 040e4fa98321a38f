"""The end of a demo under a policy: each service's ledger is audited, as an officer would do it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from service.privacy.audit import Verdict, audit
from service.privacy.evidence import newest_mark, served_from
from service.privacy.ledger import read_entries
from service.privacy.policy import Policy
from service.privacy.receipts import LEDGER
from service.privacy.show import as_page
from service.stream.settings import StreamSettings

__all__ = ["PAGE", "judge"]

PAGE: Final = "audit.html"


def judge(
    folder: Path, learners: Sequence[str], policy: Policy, stream: StreamSettings
) -> Mapping[str, Verdict]:
    """Return the verdict on each learner's ledger, and leave it as a page beside its report.

    Raises BrokerUnavailable, InvalidFile.
    """
    verdicts = {}
    for learner in learners:
        ledger = folder / learner / "state" / LEDGER
        served = served_from(ledger, stream)
        verdicts[learner] = audit(read_entries(ledger), policy, newest_mark(ledger.parent), served)
        page = as_page(verdicts[learner], str(ledger), policy)
        (folder / learner / PAGE).write_text(page, encoding="utf-8")
    return verdicts
