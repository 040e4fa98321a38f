"""What has been measured so far: the matrix R, the running extremes and a thinned curve.

A history belongs into checkpoints: it goes to plain JSON and back exactly, so that after a
crash it goes on bit-identically.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Final, cast

from pydantic import TypeAdapter, ValidationError

from service.errors import InvalidFile
from service.evaluation import forgetting
from service.evaluation.memory import Boundary, ByClass, Memory, Point, Regime, Switch
from service.evaluation.prequential import Prequential
from service.evaluation.windows import WINDOW
from service.events import Evaluated, Measured, Scores

if TYPE_CHECKING:
    from service.learners.base import JSON

__all__ = ["MOST_BOUNDARIES", "History"]

MOST_BOUNDARIES: Final = 1000
"""Detected boundaries kept; later ones are told, but not remembered."""

_MEMORY: Final = TypeAdapter(Memory)


class History:
    """Turns evaluations into scores.

    Memory is bounded by the number of segments, not by the length of the stream: R has a row
    and the list of switches an entry for each segment; min-ACC, anytime accuracy and the windows
    are running values over *every* evaluation, so they never depend on what is kept of the curve;
    and of the curve at most `CURVE_POINTS` evaluations stay, besides the untrained one and the
    segments' ends.

    min-ACC counts the evaluations of full probes and of subsets alike, from the first one after
    a probe's segment ended for the first time. Windows of ``w`` evaluations compare accuracies on
    the subsets alone: between other images, the images would make a difference. For the same
    reason so does forgetting in a stream that names no segments: there, each probe's is its best
    in any evaluation since learning began less the present one. It ends with the first segment
    that is named; from then on the rows of R count.
    """

    def __init__(self, probes: Sequence[str], w: int = WINDOW) -> None:
        if len(set(probes)) < len(probes):
            raise ValueError(f"two probes have one name: {', '.join(probes)}")
        self._memory = Memory(tuple(probes), w)

    @property
    def probes(self) -> Sequence[str]:
        """The probes' names: the columns of R."""
        return self._memory.probes

    @property
    def samples(self) -> int:
        """Samples learned."""
        return self._memory.prequential.samples

    @property
    def prequential(self) -> Prequential:
        """Accuracy on the stream itself, each batch before it was learned."""
        return self._memory.prequential

    @property
    def segments(self) -> list[str]:
        """The segments visited so far, in order; the last one may still be going on."""
        return [switch.segment for switch in self._memory.switches]

    @property
    def switches(self) -> Sequence[Switch]:
        """When each segment started."""
        return tuple(self._memory.switches)

    @property
    def boundaries(self) -> Sequence[Boundary]:
        """What was found in the stream itself: not the truth, of which `switches` is told."""
        return tuple(self._memory.boundaries)

    @property
    def regimes(self) -> Sequence[Regime]:
        """Which regime was told to go on, and when."""
        return tuple(self._memory.regimes)

    @property
    def points(self) -> Sequence[Point]:
        """The thinned curve, in order of time."""
        points = [*self._memory.landmarks, *self._memory.curve.kept]
        return tuple(sorted(points, key=lambda point: (point.visit, point.samples, point.ends_segment)))

    @property
    def by_class(self) -> Sequence[ByClass]:
        """Evaluations class by class, thinned, in order of time; the last one is among them."""
        kept, last = list(self._memory.by_class.kept), self._memory.last_by_class
        if last is not None and last not in kept[-1:]:
            kept.append(last)
        return tuple(kept)

    @property
    def evaluated_at(self) -> int:
        """Samples learned when the last evaluation was made."""
        return 0 if self._memory.last is None else self._memory.last.samples

    @property
    def closed(self) -> bool:
        """The last evaluation was of the whole probes, at the end of all that was learned."""
        last, switches = self._memory.last, self._memory.switches
        if last is None or not last.full or last.samples != self.samples:
            return False
        return last.ends_segment or not switches

    def learned(self, samples: int, correct: int) -> None:
        """Count a learned batch of which ``correct`` samples were predicted right beforehand.

        Raises ValueError unless 0 ≤ correct ≤ samples and samples ≥ 1.
        """
        self._memory.prequential.add(samples, correct)

    def segment_started(self, name: str) -> None:
        """Note that the next sample to be learned is the first of segment ``name``."""
        if name in self.probes and name not in self.segments:
            self._memory.windows[self.probes.index(name)].begin()
        self._memory.best.clear()
        self._memory.switches.append(Switch(self.samples, name))

    def boundary_detected(self, signal: str) -> None:
        """Note that ``signal`` tells of another subject."""
        if len(self._memory.boundaries) < MOST_BOUNDARIES:
            self._memory.boundaries.append(Boundary(self.samples, signal))

    def regime_told(self, regime: int) -> None:
        """Note that number ``regime`` is what is being learned."""
        if len(self._memory.regimes) < MOST_BOUNDARIES:
            self._memory.regimes.append(Regime(self.samples, regime))

    def evaluated(self, event: Evaluated) -> Measured:
        """Take in an evaluation and return the scores and R as they are after it.

        The full evaluation before the first sample is row 0 of R, one that ends segment i is
        row i; repeating the latest replaces it. Raises ValueError when the probes are not this
        history's, the visit is not the current one, or the rows before are missing.
        """
        memory = self._memory
        if tuple(event.readings) != memory.probes:
            raise ValueError(f"probes {', '.join(event.readings)}, expected {', '.join(memory.probes)}")
        if event.visit != len(memory.switches):
            raise ValueError(f"evaluation of visit {event.visit} during visit {len(memory.switches)}")
        row = [float(reading.accuracy) for reading in event.readings.values()]
        landmark = event.ends_segment or _is_untrained(event)
        if landmark:
            self._set_row(event.visit, row)
        first = forgetting.first_visits(self._visits())
        for j, visit in first.items():
            if visit < event.visit:
                name = memory.probes[j]
                memory.minima[name] = min(row[j], memory.minima.get(name, row[j]))
        for window, reading in zip(memory.windows, event.readings.values(), strict=True):
            window.add(reading.on_subset)
        if not memory.switches and event.samples:
            for name, reading in event.readings.items():
                memory.best[name] = max(reading.on_subset, memory.best.get(name, 0.0))
        if first:
            memory.anytime_sum += fmean(row[j] for j in first)
            memory.anytime_count += 1
        point = self._point(event)
        memory.last = replace(point, scores=self._scores(point).defined())
        memory.readings = tuple(event.readings.values())
        self._keep(memory.last, landmark)
        return self._measured(memory.last)

    def latest(self) -> Measured | None:
        """Return what the last evaluation came to; None before the first."""
        last = self._memory.last
        return None if last is None else self._measured(last)

    def _measured(self, last: Point) -> Measured:
        R = tuple(tuple(kept) for kept in self._memory.R)
        readings = dict(zip(self.probes, self._memory.readings, strict=True))
        return Measured(last.samples, readings, self._scores(last), R, tuple(self.segments), self.probes)

    def to_json(self) -> "JSON":
        """Return everything as plain JSON; floats keep every bit through `json`."""
        return cast("JSON", _MEMORY.dump_python(self._memory, mode="json"))

    @classmethod
    def from_json(cls, value: "JSON") -> "History":
        """Return the history whose `to_json` gave ``value``; raises InvalidFile for anything else."""
        try:
            memory = _MEMORY.validate_python(value)
        except ValidationError as error:
            raise InvalidFile(f"not an evaluation history: {error}") from error
        history = cls(memory.probes)
        history._memory = memory
        return history

    def _visits(self) -> list[int | None]:
        column = {name: j for j, name in enumerate(self._memory.probes)}
        return [column.get(switch.segment) for switch in self._memory.switches]

    def _set_row(self, visit: int, row: list[float]) -> None:
        R = self._memory.R
        if visit not in (len(R) - 1, len(R)):
            raise ValueError(
                f"row {visit} of R cannot follow {len(R)} rows: every segment's end is evaluated"
            )
        R[visit:] = [row]

    def _point(self, event: Evaluated) -> Point:
        readings = event.readings.values()
        return Point(
            event.samples,
            tuple(reading.accuracy for reading in readings),
            tuple(reading.on_subset for reading in readings),
            tuple(reading.ece for reading in readings),
            event.full,
            event.visit,
            event.ends_segment,
            self._memory.prequential.fading,
        )

    def _keep(self, point: Point, landmark: bool) -> None:
        memory = self._memory
        if landmark:
            memory.landmarks.append(point)
        else:
            memory.curve.add(point)
        by_class = tuple(reading.by_class for reading in memory.readings)
        if any(by_class):
            memory.last_by_class = ByClass(point.samples, point.full, by_class)
            memory.by_class.add(memory.last_by_class)

    def _scores(self, last: Point) -> Scores:
        memory, row = self._memory, last.accuracy
        # a segment that is still going on counts with what is known of it now
        visits = self._visits()
        R = memory.R if len(memory.R) > len(visits) else [*memory.R, list(row)]
        complete = len(R) > len(visits)  # not when the service was started midway, without row 0
        below, mean = self._forgetting(R, visits, last) if complete else ({}, None)
        minimum = forgetting.min_acc([value] for value in memory.minima.values())
        current = visits[-1] if visits else None
        first = forgetting.first_visits(visits)
        # of a stream that names no segments, every probe tells something once anything was learned
        told = list(first) if visits or not last.samples else range(len(memory.probes))
        windows = [memory.windows[j] for j in told]
        return Scores(
            acc=forgetting.average_accuracy(R, visits) if complete else None,
            bwt=forgetting.backward_transfer(R, visits) if complete else None,
            fwt=forgetting.forward_transfer(R, visits) if complete else None,
            forgetting=mean,
            forgetting_by_probe=below,
            min_acc=minimum,
            wc_acc=forgetting.wc_acc(None if current is None else row[current], minimum, len(first)),
            windowed_forgetting=fmean(window.drop for window in windows) if windows else None,
            windowed_plasticity=fmean(window.rise for window in windows) if windows else None,
            anytime_accuracy=memory.anytime_sum / memory.anytime_count if memory.anytime_count else None,
            ece=fmean(last.ece[j] for j in told) if told else None,
            prequential_accuracy=memory.prequential.cumulative,
            prequential_fading=memory.prequential.fading,
        )

    def _forgetting(
        self, R: forgetting.Matrix, visits: forgetting.Visits, last: Point
    ) -> tuple[dict[str, float], float | None]:
        """Return what is forgotten of each probe, and the mean."""
        probes, best = self._memory.probes, self._memory.best
        if best:
            now = dict(zip(probes, last.on_subset, strict=True))
            below = {name: forgetting.below_best([best[name], now[name]]) for name in probes}
            return below, fmean(below.values())
        by_column = forgetting.forgetting_by_probe(R, visits)
        return {probes[j]: value for j, value in by_column.items()}, forgetting.forgetting(R, visits)


def _is_untrained(event: Evaluated) -> bool:
    # a stream without segments stays in visit 0 for ever: only before its first sample is it row 0
    return event.full and event.visit == 0 and event.samples == 0
