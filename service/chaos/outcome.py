"""What a run came to, read from its last checkpoint: two runs with equal outcomes are the same run."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

from service.checkpoint import read_checkpoint, state_digest
from service.errors import InvalidFile
from service.learners.base import State
from service.state_folder import checkpoint_files

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Two hashes, and the counts that say where a difference comes from."""

    learner: str
    """SHA-256, in hex, over the learner's state."""
    memory: str
    """The same over evaluation history, counts, position and the state of the random generators and of
    the watch for boundaries."""
    learned: int
    dead: int
    passed: int
    """Offsets that the position has passed."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the outcome of the run whose state is in ``folder``; raises InvalidFile without one."""
        files = checkpoint_files(folder)
        if not files:
            raise InvalidFile(f"{folder} holds no checkpoint: the run left nothing")
        last = read_checkpoint(files[-1])
        random = state_digest(State(last.random, {}))
        position = asdict(replace(last.position, ends={}))  # how far a producer was is no part of it
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
        """Return how many of ``total`` records were neither learned nor dead-lettered."""
        return max(0, total - self.learned - self.dead)

    @property
    def twice(self) -> int:
        """How many more records were learned or dead-lettered than the position has passed."""
        return max(0, self.learned + self.dead - self.passed)
