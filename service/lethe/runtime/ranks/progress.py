"""How far all ranks together have read: one position, made of the positions of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lethe.errors import InvalidSetting, PositionLost
from lethe.ingest.batcher import FilledBatch, Start
from lethe.learners.state import JSON
from lethe.runtime.ranks.shares import Shares
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Position

__all__ = ["Mark", "Progress"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a `Progress`."""

    position: Position
    turns: tuple[int, ...]
    reported: tuple[Mapping[int, int], ...]


class Progress:
    """The position of ``ranks`` ranks of a run that continues at ``resumed``, or that begins later.

    ``shares`` say how the stream was divided so far. Raises InvalidSetting if a rank has no partition.
    """

    def __init__(
        self, stream: StreamSettings, ranks: int, resumed: Position | None, shares: Shares | None
    ) -> None:
        self._stream, self._ranks = stream, ranks
        self._position, self._shares = resumed, shares
        self._reported: list[Mapping[int, int]] = [{}] * ranks
        self._turns = [0] * ranks
        self.until = None if shares is None else shares.until(stream.stop_after)
        """By partition, the offset before which the run ends; None for a run without end."""
        if resumed is not None:
            self._check_partitions(resumed)

    @property
    def begun(self) -> bool:
        """Whether it is known where learning began."""
        return self._position is not None and self._shares is not None

    def begin(self, position: Position) -> None:
        """Begin at ``position``. Raises InvalidSetting if a rank has no partition."""
        self._check_partitions(position)
        self._position, self._shares = position, Shares(position.offsets)
        self.until = self._shares.until(self._stream.stop_after)

    @property
    def start(self) -> Start | None:
        """Where learning is; None before it began."""
        return None if self._position is None else Start(self._position, self.left(self._position))

    @property
    def position(self) -> Position:
        """Where learning is. Raises ValueError before it began."""
        if self._position is None:
            raise ValueError("no rank can read before rank 0 knows where to begin")
        return self._position

    def mark(self) -> "Mark":
        """Return where learning is, to `rewind` to."""
        return Mark(self.position, tuple(self._turns), tuple(self._reported))

    def rewind(self, mark: "Mark") -> None:
        """Go back to where learning was: a batch was not learned, and will be read again."""
        self._position, self._turns, self._reported = mark.position, list(mark.turns), list(mark.reported)

    @property
    def turns(self) -> Sequence[int]:
        """By rank, the index among its partitions of the one that is next."""
        return tuple(self._turns)

    def take_turns(self) -> Sequence[int]:
        """Continue each rank's rotation over its partitions; nothing if these were dealt otherwise before."""
        turns = () if self._shares is None else self._shares.turns
        if len(turns) != self._ranks:
            return ()
        self._turns = list(turns)
        return turns

    def to_json(self) -> JSON:
        """Return what a checkpoint stores of the ranks; None before the broker was reached."""
        return None if self._shares is None else self._shares.with_turns(self._turns).to_json()

    def whole(self, filled: FilledBatch) -> FilledBatch:
        """Move on by a rank's batch; return it with the positions of all partitions, before and after it."""
        before, rank, theirs = self.position, filled.rank, filled.position
        self._turns[rank], self._reported[rank] = theirs.turn, theirs.reported
        self._position = Position(
            {**before.offsets, **theirs.offsets},
            0,
            before.topic_id,
            {**before.ends, **filled.ends},
            self._all_reported(),
            labels={**before.labels, **theirs.labels},
            labels_settled={
                **{p: text for p, text in before.labels_settled.items() if p not in theirs.labels},
                **theirs.labels_settled,
            },
        )
        return replace(
            filled,
            first=before.offsets,
            position=self._position,
            ends=self._position.ends,
            left=self.left(self._position),
        )

    def report(self, rank: int, reported: Mapping[int, int]) -> Mapping[int, int]:
        """Note up to which offsets a rank has dead-lettered; return those of all ranks."""
        self._reported[rank] = reported
        return self._all_reported()

    def update_topic(self, position: Position) -> None:
        """Take over the topic's partitions and their ends, as a rank's reader reports them.

        Raises PositionLost for another topic, InvalidSetting for partitions that were added to a run with an
        end.
        """
        known = self.position
        if None not in (position.topic_id, known.topic_id) and position.topic_id != known.topic_id:
            raise PositionLost(
                f"topic {self._stream.topic} was deleted and created anew, and several ranks "
                "cannot go on with the new one: --fresh starts over"
            )
        added = {p: offset for p, offset in position.offsets.items() if p not in known.offsets}
        if added and self.until is not None:
            raise InvalidSetting(
                f"stream.stop_after: partitions were added to topic {self._stream.topic}, and "
                "several ranks had divided the records between the earlier ones"
            )
        self._position = replace(
            known,
            offsets={**known.offsets, **added},
            turn=0,
            ends={**known.ends, **position.ends},
            labels={**position.labels, **known.labels},  # what is learned may be behind what is read
        )

    def left(self, position: Position) -> int | None:
        """Return the number of offsets from ``position`` to the end of the run."""
        if self.until is None:
            return None
        return sum(max(0, end - position.offsets[p]) for p, end in self.until.items())

    def lag(self, rank: int) -> int:
        """Return the number of records in a rank's partitions that are not learned."""
        known = self.position
        return sum(
            max(0, known.ends.get(p, offset) - offset)
            for p, offset in known.offsets.items()
            if p % self._ranks == rank
        )

    def _all_reported(self) -> Mapping[int, int]:
        return {p: offset for reported in self._reported for p, offset in reported.items()}

    def _check_partitions(self, position: Position) -> None:
        partitions = len(position.offsets)
        if partitions < self._ranks:
            raise InvalidSetting(
                f"run.ranks: {self._ranks} ranks need a partition each, topic {self._stream.topic} has "
                f"{partitions}"
            )
