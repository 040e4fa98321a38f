"""What else there is beside a ledger to hold it against: the newest checkpoint, and the broker."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from service.checkpoint import read_checkpoint
from service.errors import InvalidFile
from service.privacy.ledger import LedgerMark, read_entries
from service.privacy.receipts import mark_of
from service.state_folder import checkpoint_files
from service.stream.broker import KafkaSource
from service.stream.settings import StreamSettings

__all__ = ["newest_mark", "served_from"]


def newest_mark(folder: Path) -> LedgerMark | None:
    """Return what the newest checkpoint in ``folder`` knows of the ledger; None without checkpoints.

    Raises InvalidFile when it cannot be read.
    """
    files = checkpoint_files(folder)
    return mark_of(read_checkpoint(files[-1])) if files else None


def served_from(ledger: Path, stream: StreamSettings) -> Mapping[int, int]:
    """Ask the broker of ``stream`` where the log of each partition of the ledger's topic begins.

    Raises BrokerUnavailable; InvalidFile when the ledger names more than one topic, or none.
    """
    topics = {entry.receipt.topic for entry in read_entries(ledger)}
    if len(topics) != 1:
        raise InvalidFile(f"{ledger} is of {len(topics)} topics, and the broker is asked about one")
    with closing(KafkaSource(stream.model_copy(update={"topic": topics.pop()}))) as source:
        return source.starts()
