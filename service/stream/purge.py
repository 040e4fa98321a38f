"""Purging a topic that several services may share: never past what one of them may read again.

Each service commits, in its own consumer group, how far it has learned, and notes beside that from
where on it would have to read after a fall back to its oldest checkpoint. Records before the lowest
of these notes are deleted, and no others. A group of something else counts with what it committed.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kafka import TopicPartition

from service.errors import InvalidSetting
from service.stream.broker import KafkaSource
from service.stream.cluster import kafka_errors, open_admin
from service.stream.settings import StreamSettings
from service.stream.source import Position, Purged

__all__ = ["Purger", "Sharing", "needed_from"]

UNKNOWN: Final = -1
"""The offset of a group that has committed none."""

Offsets = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Sharing:
    """What others are told of a service: who it is, and from where on it may read again.

    ``service`` is the same after every restart, and different for two services. With ``purges`` it
    has records deleted that nobody needs any more.
    """

    service: str
    keep: Position | None
    purges: bool


class Purger:
    """Tells the others what this service needs, and deletes what none of them does."""

    def __init__(self, stream: StreamSettings, sharing: Sharing) -> None:
        self._stream, self._service, self._purges = stream, sharing.service, sharing.purges
        self._learned: Offsets = {}
        self._keep: Offsets = {} if sharing.keep is None else sharing.keep.offsets

    def announce(self, source: KafkaSource, begins: Offsets) -> None:
        """Tell the others, before the first record is read, where learning begins.

        Raises BrokerUnavailable; InvalidSetting when another service has the same consumer group.
        """
        if self._purges:
            with open_admin(self._stream) as admin, kafka_errors(self._stream):
                self._alone(admin, source.partitions, told=False)
        if not self._learned:
            self._learned = begins
            self._keep = {p: min(self._keep.get(p, offset), offset) for p, offset in begins.items()}
        self.tell(source)

    def learned(self, learned: Offsets, keep: Offsets) -> None:
        """Take note of how far learning is, and from where on records may be needed again."""
        self._learned, self._keep = learned, keep

    def tell(self, source: KafkaSource) -> None:
        """Tell the others. Raises BrokerUnavailable: until then, what they know is on the safe side."""
        notes = {p: json.dumps({"service": self._service, "keep": keep}) for p, keep in self._keep.items()}
        source.commit(self._learned, notes if self._service else {})

    def purge(self, source: KafkaSource) -> Purged | None:
        """Delete what nobody needs; None when this service does not purge.

        Raises BrokerUnavailable; InvalidSetting when the broker refuses, or another service has the
        same consumer group.
        """
        if not self._purges:
            return None
        waits_for = self._delete(source) if self._stream.deletes else ""
        return Purged(source.starts(), waits_for)

    def owes(self, purged: Purged) -> bool:
        """Tell whether records are there yet that this service itself does not need."""
        return any(purged.starts[p] < offset for p, offset in self._keep.items())

    def _delete(self, source: KafkaSource) -> str:
        stream, starts = self._stream, source.starts()
        with open_admin(stream) as admin, kafka_errors(stream):
            self._alone(admin, self._keep, told=True)
            listed = {group["group_id"] for group in admin.list_groups()}
            needed, waits_for = needed_from(admin, stream, self._keep, listed)
            useless = {p: offset for p, offset in needed.items() if offset > starts[p]}
            if useless:
                admin.delete_records({TopicPartition(stream.topic, p): o for p, o in useless.items()})
        return waits_for

    def _alone(self, admin: Any, partitions: Iterable[int], told: bool) -> None:
        """Raise InvalidSetting if the group's commits are another's: they would hide one another.

        Once this service has ``told`` what it needs, a commit without a note is another's, too.
        """
        committed = _committed(admin, self._stream, [self._stream.group], partitions)[self._stream.group]
        for partition, commit in committed.items():
            note = _note(commit.metadata)
            foreign = told and commit.offset != UNKNOWN if note is None else note["service"] != self._service
            if foreign:
                raise InvalidSetting(
                    f"stream.group {self._stream.group}: another service commits partition {partition} of "
                    f"topic {self._stream.topic} in this group, too, and a purge could delete what one of "
                    "them needs; give each its own --group, or delete the group if that service is gone"
                )


def needed_from(
    admin: Any, stream: StreamSettings, keep: Offsets, groups: Iterable[str] = ()
) -> tuple[Offsets, str]:
    """Return the first offset of each partition in ``keep`` that somebody needs, and who needs the oldest.

    ``groups`` count if they have committed on the partition, those of ``stream.shared_with`` in any
    case: what such a group has not committed yet, it needs from the start. kafka-python's errors
    are raised as they are.
    """
    needed, holder = dict(keep), ""
    expected = set(stream.sharing_groups)
    others = (set(groups) | expected) - {stream.group}
    for group, committed in _committed(admin, stream, sorted(others), keep).items():
        for partition, commit in committed.items():
            note = _note(commit.metadata)
            offset = commit.offset if note is None else int(note["keep"])
            if commit.offset == UNKNOWN:
                if group not in expected:
                    continue
                offset = 0
            if offset < needed[partition]:
                needed[partition] = offset
                holder = f"group {group}, which may need partition {partition} from offset {offset} on"
    return needed, holder


def _committed(
    admin: Any, stream: StreamSettings, groups: Iterable[str], partitions: Iterable[int]
) -> dict[str, dict[int, Any]]:
    """Return by group and partition what is committed; an offset of UNKNOWN where nothing is."""
    asked = [TopicPartition(stream.topic, p) for p in partitions]
    found = {}
    for group in groups:  # one by one: brokers before 3.0 answer for no more
        answer = admin.list_group_offsets({group: asked})[group]
        found[group] = {place.partition: commit for place, commit in answer.items()}
    return found


def _note(metadata: str | None) -> dict[str, Any] | None:
    """Return what a service of this kind noted beside its commit; None of anything else."""
    try:
        note = json.loads(metadata or "null")
        return note if isinstance(note, dict) and isinstance(note["keep"], int) and note["service"] else None
    except (ValueError, KeyError):
        return None
