"""What a run continues from: its state folder with the newest checkpoint, or neither."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Self

from lethe.checkpointing.checkpoint import Checkpoint, read_samples
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidSetting
from lethe.evaluation.history import History
from lethe.events import CheckpointUnreadable
from lethe.ingest.batcher import Start
from lethe.learners.finite import FiniteCheck, abbreviated
from lethe.learners.state import JSON, State
from lethe.probeset import ProbeSet
from lethe.runtime.ranks.shares import Shares
from lethe.runtime.resume import check_fingerprint, resumed, run_id
from lethe.settings import EvaluationSettings, Settings
from lethe.stream.source import Position

__all__ = ["Storage", "open_state_folder"]

logger = logging.getLogger("lethe")


@contextmanager
def open_state_folder(settings: Settings) -> Iterator[StateFolder | None]:
    """Yield the locked state folder that ``settings`` name; None, with a warning, if they name none.

    Raises InvalidSetting if the folder cannot be used.
    """
    checkpoint = settings.checkpoint
    if checkpoint.folder is None:
        logger.warning("no --state folder: a restart starts learning from the beginning")
        yield None
        return
    with StateFolder(checkpoint.folder, checkpoint.keep) as folder:
        if checkpoint.fresh:
            folder.start_fresh(run_id(settings))
        else:
            folder.clear_fresh_marker()
        yield folder


class Storage:
    """The state folder of a run and the checkpoint that it continues from; both may be absent."""

    def __init__(
        self,
        folder: StateFolder | None,
        checkpoint: Checkpoint | None = None,
        unreadable: tuple[CheckpointUnreadable, ...] = (),
    ) -> None:
        self.folder, self.checkpoint, self.unreadable = folder, checkpoint, unreadable

    @classmethod
    def load(cls, folder: StateFolder | None, settings: Settings, finite: FiniteCheck) -> Self:
        """Return the storage with the newest checkpoint that can be read and holds finite numbers.

        Raises InvalidSetting if the checkpoint is of a run with other settings, InvalidFile if there are
        checkpoints and none can be used.
        """
        if folder is None:
            return cls(None)
        unreadable: list[CheckpointUnreadable] = []

        def flaw(checkpoint: Checkpoint) -> str:
            found = finite.offenders_of(checkpoint.learner)
            return f"numbers in it are not finite: {abbreviated(found)}" if found else ""

        checkpoint = folder.load_newest(
            lambda _, error: unreadable.append(CheckpointUnreadable(str(error))),
            run_id(settings) if settings.checkpoint.fresh else None,
            flaw,
        )
        if checkpoint is not None:
            check_fingerprint(checkpoint, settings)
        return cls(folder, checkpoint, tuple(unreadable))

    @property
    def identity(self) -> str:
        """What identifies the state folder; empty without one."""
        return "" if self.folder is None else self.folder.identity

    @property
    def drift(self) -> JSON:
        """The boundary detector's state in the checkpoint; None without one."""
        return None if self.checkpoint is None else self.checkpoint.drift

    @property
    def samples(self) -> int:
        """Samples that the checkpoint holds; 0 without one."""
        return 0 if self.checkpoint is None else self.checkpoint.samples

    def history(self, probes: list[ProbeSet], settings: EvaluationSettings) -> History:
        """Return the checkpoint's history, or an empty one; raises InvalidSetting for other probes."""
        names = [probe.name for probe in probes]
        if self.checkpoint is None:
            return History(names, settings.window, settings.min_segment)
        history = History.from_json(self.checkpoint.history)
        if list(history.probes) != names:
            raise InvalidSetting(
                f"evaluation.probes: the checkpoint was measured on {', '.join(history.probes) or 'none'}, "
                f"these are {', '.join(names) or 'none'}; --fresh starts from the beginning"
            )
        return history

    def start(self, stop_after: int | None) -> Start | None:
        """Return where learning continues, and how many of ``stop_after`` records are left from there.

        None without a checkpoint.
        """
        if self.checkpoint is None:
            return None
        counts = resumed(self.checkpoint)
        left = None if stop_after is None else max(0, stop_after - counts.received - counts.lost)
        return Start(self.checkpoint.position, left)

    def require_single(self) -> None:
        """Raise InvalidSetting if the checkpoint is of ranks, each of which reads in its own rotation."""
        if self.checkpoint is not None and self.checkpoint.ranks is not None:
            raise InvalidSetting(
                "run.ranks is not set, and the checkpoint is of a run with ranks: "
                "continue it with any number of them, such as 1"
            )

    def shares(self) -> Shares | None:
        """Return how the stream is shared between ranks that continue; None without a checkpoint."""
        if self.checkpoint is None:
            return None
        if self.checkpoint.ranks is not None:
            return Shares.from_json(self.checkpoint.ranks)
        counts = resumed(self.checkpoint)
        return Shares.of_single(self.checkpoint.position, counts.received + counts.lost)

    def earliest_position(self, newest: Position | None) -> Position | None:
        """Return the earliest position that a restart may go back to; None if it is not restricted."""
        if self.folder is None or newest is None:
            return None
        return self.folder.earliest_position(newest)

    def dead_letter_key(self) -> bytes | None:
        """Return the key that dead letters hash values with; None for one that is not stored."""
        return None if self.folder is None else self.folder.dead_letter_key()

    def release_tensors(self) -> None:
        """Drop the checkpoint's tensors: they map a file whose disk space would not be freed otherwise."""
        if self.checkpoint is not None:
            self.checkpoint = replace(self.checkpoint, learner=State({}, {}), random={})

    def recovery(self) -> str:
        """Return what to do when the learner has diverged, for the error message."""
        if self.folder is None:
            return "without --state nothing is saved: start again with other options, such as a smaller lr"
        path = self.folder.folder
        files = checkpoint_files(path)
        if not files:
            return "no checkpoint was written yet: start again with other options, such as a smaller lr"
        return (
            f"the newest checkpoint in {path} holds {read_samples(files[-1])} samples, and a restart with "
            f"the same options diverges again; `lethe checkpoint rollback {path} --option NAME=VALUE` "
            "continues from it with other options, such as a smaller lr, and with `--to SAMPLES` from an "
            "older one"
        )
