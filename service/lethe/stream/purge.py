"""Purges a topic that several services may share: never past what one of them may read again.

Each service commits in its own consumer group how far it has learned, with a note of the offset from which
it would read after falling back to its oldest checkpoint. Records before the lowest of these offsets are
deleted, and no others. For the group of any other consumer, its commit counts.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kafka import TopicPartition

from lethe.errors import BrokerUnavailable, InvalidSetting
from lethe.files.bounded_json import read_json
from lethe.stream.admin import open_admin
from lethe.stream.broker_errors import kafka_errors
from lethe.stream.consumer import KafkaSource
from lethe.stream.settings import StreamSettings
from lethe.stream.source import Position, Purged

__all__ = ["Purger", "Sharing", "needed_offsets"]

UNKNOWN: Final = -1
"""The committed offset of a group without a commit."""
COMMIT_SECONDS: Final = 1.0
"""Timeout for the answer to a commit that a purge depends on."""
RETRY_SECONDS: Final = 2.0
"""Between two attempts at a purge that other services delay."""
RETRY_UNREADABLE_SECONDS: Final = 15.0
"""The same when commits cannot be read: each attempt blocks reading."""
QUIET_SECONDS: Final = 60.0
"""For this long after another client's commit in its group, a service deletes nothing."""

Offsets = Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a service publishes to others on its topic: its identity, and what it may read again.

    ``service`` stays the same over restarts and differs between services. With ``purges``, the service
    deletes the records that none of them needs: in the partitions that it reads, and in those of ``keep``,
    which other ranks may read.
    """

    service: str
    keep: Position | None
    purges: bool


class Purger:
    """Publishes which records this service needs, and deletes those that no service does."""

    def __init__(self, stream: StreamSettings, sharing: Sharing) -> None:
        self._stream, self._service, self._purges = stream, sharing.service, sharing.purges
        self._learned: Offsets = {}
        self._keep: Offsets = {} if sharing.keep is None else sharing.keep.offsets
        self._quiet_at = 0.0
        self.retry_seconds = RETRY_SECONDS
        """After how long a delayed purge may be tried again."""

    def publish_start(self, source: KafkaSource, begins: Offsets) -> None:
        """Publish where learning begins, before the first record is read.

        Learning does not depend on it: a rejected commit is in ``source.commits.failure``. Raises
        InvalidSetting when another service has the same consumer group and this one purges.
        """
        if self._purges and self._has_other_service(source.partitions):
            raise InvalidSetting(
                f"stream.group {self._stream.group}: another service commits in this group for topic "
                f"{self._stream.topic}, too, and a purge could delete what one of them needs; give each "
                "its own --group, or delete the group if that service is gone"
            )
        if not self._learned:
            self._learned = begins
            self._keep = {**self._keep, **{p: min(self._keep.get(p, o), o) for p, o in begins.items()}}
        self.publish(source)
        source.commits.wait(COMMIT_SECONDS)

    def reset(self) -> None:
        """Forget the progress of learning, because the topic was deleted and created anew."""
        self._learned, self._keep = {}, {}

    def record_progress(self, learned: Offsets, keep: Offsets) -> None:
        """Record how far learning is, and the offsets from which records may be needed again."""
        self._learned, self._keep = learned, keep

    def publish(self, source: KafkaSource) -> None:
        """Commit the progress. Until the broker has it, others know of lower offsets, which is safe."""
        notes = {p: json.dumps({"service": self._service, "keep": keep}) for p, keep in self._keep.items()}
        source.commits.send(self._learned, notes if self._service else {})

    def purge(self, source: KafkaSource) -> Purged | None:
        """Delete the records that no service needs; return None when this service does not purge.

        While it is not certain what others need, or whether they know what this service needs, nothing is
        deleted and the result says why. Raises BrokerUnavailable, TopicReplaced; InvalidSetting when the
        broker rejects the deletion.
        """
        if not self._purges:
            return None
        source.verify()  # records are deleted by the topic's name, and were learned by its id
        self.retry_seconds = RETRY_SECONDS
        waits_for = self._delete(source) if self._stream.deletes else ""
        return Purged(source.starts(self._keep), waits_for)

    def is_incomplete(self, purged: Purged) -> bool:
        """Return whether the topic still holds records that this service does not need."""
        return any(purged.starts[p] < offset for p, offset in self._keep.items())

    def _delete(self, source: KafkaSource) -> str:
        stream, starts, commits = self._stream, source.starts(self._keep), source.commits
        if commits.failure:
            self.publish(source)
        if not commits.wait(COMMIT_SECONDS):
            why = commits.failure or f"no answer for group {stream.group} yet"
            return f"the broker to accept this service's own commits: {why}"
        with open_admin(stream) as admin:
            try:
                with kafka_errors(stream):
                    others = self._other_commits(admin, self._keep, published=True)
                    listed = {group["group_id"] for group in admin.list_groups()}
                    needed, waits_for = needed_offsets(admin, stream, self._keep, listed)
            except (BrokerUnavailable, InvalidSetting) as error:
                self.retry_seconds = RETRY_UNREADABLE_SECONDS
                return f"the commits of all groups, which cannot be read now: {error}"
            if others:
                self._quiet_at = time.monotonic() + QUIET_SECONDS
                self.publish(source)  # theirs was the newest
            if time.monotonic() < self._quiet_at:
                return (
                    f"another client that commits in this service's own group, {stream.group}, and hides "
                    "what one of the two needs; give each its own --group"
                )
            unneeded = {p: offset for p, offset in needed.items() if offset > starts[p]}
            if unneeded:
                source.verify()  # again: the requests above took time
                with kafka_errors(stream):
                    admin.delete_records({TopicPartition(stream.topic, p): o for p, o in unneeded.items()})
        return waits_for

    def _has_other_service(self, partitions: Iterable[int]) -> bool:
        """Return whether another service has committed in this group; False if that cannot be read."""
        try:
            with open_admin(self._stream) as admin, kafka_errors(self._stream):
                return self._other_commits(admin, partitions, published=False)
        except (BrokerUnavailable, InvalidSetting):
            return False  # `purge` reads it again, and deletes nothing before

    def _other_commits(self, admin: Any, partitions: Iterable[int], published: bool) -> bool:
        """Return whether another client has committed in the group: the commits would hide one another.

        Once this service has ``published`` its own, a commit without a note is another client's, too.
        """
        committed = _committed(admin, self._stream, [self._stream.group], partitions)[self._stream.group]
        notes = [(commit.offset, _note(commit.metadata)) for commit in committed.values()]
        return any(
            published and offset != UNKNOWN if note is None else note["service"] != self._service
            for offset, note in notes
        )


def needed_offsets(
    admin: Any, stream: StreamSettings, keep: Offsets, groups: Iterable[str] = ()
) -> tuple[Offsets, str]:
    """Return the first offset of each partition in ``keep`` that a group needs, and which group needs less.

    ``groups`` count if they have committed on the partition. Those of ``stream.shared_with`` always
    count: without a commit, they need the partition from its start. Raises kafka-python's errors.
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
    """Return the commits by group and partition; the offset is UNKNOWN if there is none."""
    asked = [TopicPartition(stream.topic, p) for p in partitions]
    found = {}
    for group in groups:  # one by one: brokers before 3.0 answer for one group a request
        answer = admin.list_group_offsets({group: asked})[group]
        found[group] = {place.partition: commit for place, commit in answer.items()}
    return found


def _note(metadata: str | None) -> dict[str, Any] | None:
    """Return the note of a Lethe service; None for any other metadata."""
    try:
        note = read_json(metadata or "null")
        return note if isinstance(note, dict) and isinstance(note["keep"], int) and note["service"] else None
    except (ValueError, KeyError):
        return None
