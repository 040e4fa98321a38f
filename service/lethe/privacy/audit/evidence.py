"""Reads what a ledger is verified against: the newest checkpoint, and the broker."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import InvalidFile
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import ledger_mark
from lethe.privacy.audit.verify import CheckpointTotals
from lethe.stream.consumer import KafkaSource
from lethe.stream.settings import StreamSettings

__all__ = ["checkpoint_totals", "log_starts"]


def checkpoint_totals(folder: Path) -> CheckpointTotals | None:
    """Return the totals of the newest checkpoint in ``folder``; None without checkpoints.

    Raises InvalidFile if it cannot be read or names no ledger.
    """
    files = checkpoint_files(folder)
    if not files:
        return None
    checkpoint = read_checkpoint(files[-1])
    counts = cast("dict[str, Any]", checkpoint.counts)
    try:
        return CheckpointTotals(
            mark=ledger_mark(checkpoint),
            topic=str(checkpoint.fingerprint["stream.topic"]),
            offsets=checkpoint.position.offsets,
            received=counts["received"],
            learned=counts["learned"],
            dead_lettered=sum(counts["dead"].values()),
            lost=counts["lost"],
            unlabelled=counts.get("unlabelled", 0),  # missing in older checkpoints
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidFile(f"{files[-1]} does not state the totals of its ledger: {error}") from error


def log_starts(ledger: Path, stream: StreamSettings) -> Mapping[int, int]:
    """Return where the log of each partition of the ledger's topic begins, from the broker of ``stream``.

    Raises BrokerUnavailable; InvalidFile if the ledger does not name exactly one topic.
    """
    topics = {entry.receipt.topic for entry in read_entries(ledger)}
    if len(topics) != 1:
        raise InvalidFile(f"{ledger} names {len(topics)} topics; the broker can be asked about exactly one")
    with closing(KafkaSource(stream.model_copy(update={"topic": topics.pop()}))) as source:
        return source.starts()
