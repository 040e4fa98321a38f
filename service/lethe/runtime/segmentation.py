"""Begins and closes segments while the stream is read, and confirms or withdraws them later."""

from collections.abc import Iterable, Sequence
from typing import Final

from lethe.evaluation.history import History
from lethe.evaluation.segments import Switch
from lethe.events import (
    Emit,
    SegmentsCapped,
    SegmentsMixed,
    SegmentStarted,
    SegmentWithdrawn,
    SegmentWithoutProbe,
)

__all__ = ["MOST_SEGMENTS", "Segmentation"]

MOST_SEGMENTS: Final = 1000
"""Maximum number of segments of a run; everything after that belongs to the last one."""


class Segmentation:
    """Compares the segment names in record headers with the history's segments, batch by batch.

    A segment is begun as soon as there is a candidate for a switch (`SegmentTracker.candidate`), so that the
    segment before it is measured in time. If the candidate turns out to be none, the segment is withdrawn,
    and for the next ``every`` samples, the interval between evaluations, segments are begun only at certain
    switches: a mixture of segments causes no more evaluations than that interval does.
    """

    def __init__(self, history: History, emit: Emit, every: int) -> None:
        self._history, self._emit, self._every = history, emit, every
        self._ahead = history.tracker
        self._warned = set[str]()
        self._capped = self._mixed = False

    def due(self, runs: Sequence[tuple[str | None, int]]) -> Sequence[Switch]:
        """Return the switches to begin before a batch is learned; confirm or withdraw an earlier one.

        ``runs`` are the batch's segment names, each with its number of successive samples. Called again for
        the same samples, which were discarded and read again, it returns none that was begun.
        """
        history = self._history
        self._ahead = history.tracker
        switches = self._ahead.read(runs)
        candidate = self._ahead.candidate
        self._confirm_or_withdraw(switches)
        if candidate is not None and self._may_begin_candidate():
            switches.append(candidate)
        self._warn_of_mixture(runs)
        return self._new(switches)

    def due_at_end(self) -> Sequence[Switch]:
        """Return the candidate that was not begun, if any: at the end of the stream it counts as a switch."""
        self._ahead = self._history.tracker
        candidate = self._ahead.candidate
        return self._new([] if candidate is None else [candidate])

    def begin(self, switches: Iterable[Switch]) -> None:
        """Begin a segment at each switch."""
        for switch in switches:
            confirmed = switch != self._ahead.candidate
            self._history.segment_started(switch.segment, switch.samples, confirmed=confirmed)
            self._emit(SegmentStarted(switch.segment, len(self._history.segments), switch.samples))
            self._warn_of_missing_probe(switch.segment)

    def learned(self) -> None:
        """Note that the samples last passed to `due` were learned."""
        self._history.tracker = self._ahead

    def _confirm_or_withdraw(self, certain: Sequence[Switch]) -> None:
        begun = self._history.unconfirmed
        if begun is None or begun == self._ahead.candidate:
            return
        if begun in certain:
            self._history.segment_confirmed()
            return
        self._history.segment_withdrawn()
        segments = self._history.segments
        self._emit(SegmentWithdrawn(begun.segment, len(segments), segments[-1] if segments else None))

    def _may_begin_candidate(self) -> bool:
        withdrawn = self._history.withdrawn_at
        return withdrawn is None or self._history.samples - withdrawn >= self._every

    def _new(self, switches: Sequence[Switch]) -> Sequence[Switch]:
        """Return those that the history does not have yet, up to `MOST_SEGMENTS` in all."""
        if not switches:
            return []  # nearly every batch
        begun = self._history.switches
        new = [switch for switch in switches if not begun or switch.samples > begun[-1].samples]
        room = MOST_SEGMENTS - len(begun)  # producers choose the names: R must not grow without limit
        if len(new) > room and not self._capped:
            self._capped = True
            self._emit(SegmentsCapped(MOST_SEGMENTS, new[room].segment))
        return new[:room]

    def _warn_of_mixture(self, runs: Sequence[tuple[str | None, int]]) -> None:
        if self._mixed or not self._ahead.mixed:
            return
        named = [name for name, _ in runs if name is not None]
        names = tuple(dict.fromkeys(name for name in [self._history.tracker.run, *named] if name is not None))
        if len(names) > 1:
            self._mixed = True
            self._emit(SegmentsMixed(names[-2:], self._ahead.least))

    def _warn_of_missing_probe(self, name: str) -> None:
        probes = tuple(self._history.probes)
        if not probes or name in probes or name in self._warned:
            return
        self._warned.add(name)
        alike = next((probe for probe in probes if _folded(probe) == _folded(name)), None)
        self._emit(SegmentWithoutProbe(name, alike, probes, tuple(dict.fromkeys(self._history.segments))))


def _folded(name: str) -> str:
    return "".join(name.casefold().split())
