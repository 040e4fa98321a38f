"""The receipt of an erasure: that samples were forgotten on demand, and how many; never which."""

import time
from collections import deque
from pathlib import Path
from typing import Any, cast

from service.checkpoint import Checkpoint
from service.errors import InvalidFile
from service.learners.base import JSON, Retention
from service.privacy.ledger import Ledger, Receipt, read_entries
from service.privacy.receipts import LEDGER, mark_of

__all__ = ["erased"]


def erased(folder: Path, checkpoint: Checkpoint, samples: int, retention: Retention) -> tuple[Ledger, JSON]:
    """Add a receipt to the ledger in ``folder``; return the ledger, and what a checkpoint keeps of it.

    The receipt is durable once a checkpoint holds what is returned, and names the policy that the one
    before it names. Raises InvalidFile where the ledger is not that of the checkpoint, or is further,
    because a newer checkpoint is gone.
    """
    if checkpoint.ledger is None:
        raise InvalidFile(f"the newest checkpoint in {folder} knows of no ledger")
    path, kept = folder / LEDGER, cast("dict[str, Any]", checkpoint.ledger)
    ledger = Ledger(path, mark_of(checkpoint), kept["pending"])
    if ledger.mark != mark_of(checkpoint):
        raise InvalidFile(f"{path} is further than the newest checkpoint: start the service once, it goes on")
    latest = deque(read_entries(path), maxlen=1) if path.exists() else ()
    ledger.add(
        Receipt(
            kind="erasure",
            topic=str(checkpoint.fingerprint["stream.topic"]),
            spans=(),
            erased=samples,
            discarded_at=round(time.time(), 6),
            retention=retention.value,
            policy=latest[0].receipt.policy if latest else None,
        )
    )
    head = {"sequence": ledger.mark.sequence, "head": ledger.mark.head, "pending": list(ledger.pending)}
    return ledger, kept | head
