"""The outcome of a run, read from its last checkpoint: equal outcomes mean equal runs."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

from lethe.checkpointing.checkpoint import read_checkpoint, state_digest
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import InvalidFile
from lethe.learners.state import State

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hashes of a run's state, and counts that help to explain a difference."""

    learner: str
    """Hexadecimal SHA-256 of the learner's state."""
    memory: str
    """Hexadecimal SHA-256 of evaluation history, counts, offsets, random generators and boundary
    detection."""
    learned: int
    dead: int
    passed: int
    """Number of offsets before the position."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read the outcome of the run in the state folder ``folder``; raises InvalidFile if there is none."""
        files = checkpoint_files(folder)
        if not files:
            raise InvalidFile(f"{folder} contains no checkpoint")
        last = read_checkpoint(files[-1])
        random = state_digest(State(last.random, {}))
        position = asdict(replace(last.position, ends={}, reported={}))  # not part of the outcome
        memory = json.dumps([last.history, last.counts, position, random, last.drift], sort_keys=True)
        counts = cast("dict[str, Any]", last.counts)
        return cls(
            learner=last.digest,
            memory=hashlib.sha256(memory.encode()).hexdigest(),
            learned=counts["learned"],
            dead=sum(counts["dead"].values()),
            passed=sum(last.position.offsets.values()),
        )

    def lost(self, total: int) -> int:
        """Return the number of ``total`` records that were neither learned nor dead-lettered."""
        return max(0, total - self.learned - self.dead)

    @property
    def twice(self) -> int:
        """Number of records learned or dead-lettered beyond the offsets before the position."""
        return max(0, self.learned + self.dead - self.passed)
