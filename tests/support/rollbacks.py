"""State folders of a service that learned a few batches under a ledger, and rollbacks that fail."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import pytest

from lethe.checkpointing.checkpoint import Checkpoint
from lethe.checkpointing.state_folder import StateFolder
from lethe.learners.registry import LEARNERS
from lethe.learners.state import JSON
from lethe.privacy.audit.ledger import Ledger
from lethe.privacy.audit.receipt import Receipt, Span
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.wire import Layout
from tests.support.commands import Lethe

__all__ = [
    "DIGEST",
    "RECEIPT",
    "Take",
    "about",
    "assert_refused",
    "fingerprint",
    "learn_batch",
    "unwritable_ledger",
    "write_states",
]

DIGEST: Final = "ab" * 32
"""Of the policy."""
RECEIPT: Final = Receipt("batch", "images", (), retention="nothing", policy=DIGEST, discarded_at=1e9)
Take = Callable[[int, Ledger], Checkpoint]
"""Returns the checkpoint after so many samples."""


def fingerprint(learner: str) -> dict[str, JSON]:
    """Return that of a service with the learner's default options."""
    options = LEARNERS[learner].Options.of({}).model_dump(mode="json")
    layout: dict[str, JSON] = Layout().model_dump()
    return {
        "learner.name": learner,
        "learner.seed": 0,
        "stream.topic": "images",
        **{f"learner.options.{name}": value for name, value in options.items()},
        **{f"sample.{name}": value for name, value in layout.items()},
    }


def about(ledger: Ledger, kept: JSON = None) -> JSON:
    """Return what a checkpoint stores of a ledger."""
    mark = {"sequence": ledger.mark.sequence, "head": ledger.mark.head, "pending": list(ledger.pending)}
    return cast("JSON", mark | {"unpurged": None, "kept": kept})


def learn_batch(state: StateFolder, ledger: Ledger, samples: int, take: Take) -> None:
    """Learn a batch of 64 samples up to so many, and write a checkpoint."""
    spans = (Span(0, samples - 64, samples),)
    ledger.add(replace(RECEIPT, spans=spans, received=64, learned=64))
    state.write(take(samples, ledger))
    ledger.force(ledger.mark)


def write_states(folder: Path, take: Take, batches: int = 4, after: Sequence[Receipt] = ()) -> None:
    """Write a checkpoint after each batch of 64 samples, and ``after`` receipts after the second one's."""
    with StateFolder(folder, keep=10) as state:
        ledger = Ledger(folder / LEDGER)
        for number in range(1, batches + 1):
            learn_batch(state, ledger, 64 * number, take)
            if number == 2:
                for receipt in after:
                    ledger.add(receipt)


def assert_refused(lethe: Lethe, folder: Path, said: str, *arguments: str) -> None:
    """Fail unless the rollback of a state folder is refused in a line with ``said``, and changes no file."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert said in lethe.refuses("checkpoint", "rollback", str(folder), *arguments)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@contextmanager
def unwritable_ledger(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the disk be full whenever the ledger is written."""

    def fail(self: Ledger, mark: object) -> None:
        raise OSError(28, "No space left on device", str(folder / LEDGER))

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "force", fail)
        yield
