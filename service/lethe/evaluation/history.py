"""The history of a run's evaluations: the matrix R, running extremes and a thinned curve.

Checkpoints store it as plain JSON, which restores it bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Final, cast

from pydantic import TypeAdapter, ValidationError

from lethe.errors import InvalidFile
from lethe.evaluation import score_formulas
from lethe.evaluation.compute_scores import compute_forgetting, compute_scores, compute_stream_scores
from lethe.evaluation.estimated_accuracy import EstimatedAccuracy
from lethe.evaluation.history_state import Boundary, ByClass, HistoryState, Point, Regime, Switch
from lethe.evaluation.prequential import Prequential
from lethe.evaluation.segments import SegmentTracker
from lethe.evaluation.windows import WINDOW
from lethe.events import MIN_SEGMENT, SCORES, Evaluated, ScoresUpdated

if TYPE_CHECKING:
    from lethe.learners.state import JSON

__all__ = ["MOST_BOUNDARIES", "History", "HistorySnapshot"]

_OF_STREAM: Final = {name for name, info in SCORES.items() if info.source == "stream"}
MOST_BOUNDARIES: Final = 1000
"""Maximum of stored boundaries, and of regimes; later ones are emitted but not stored."""

UNNAMED: Final = "(name withheld)"
"""Stands for the name of a segment that a policy does not allow to be stored."""

_STATE: Final = TypeAdapter(HistoryState)


@dataclass(frozen=True, slots=True)
class HistorySnapshot:
    """What a history held at one moment: safe to read from any thread. The fields are those of `History`."""

    probes: Sequence[str]
    segments: Sequence[str]
    switches: Sequence[Switch]
    boundaries: Sequence[Boundary]
    regimes: Sequence[Regime]
    points: Sequence[Point]
    by_class: Sequence[ByClass]


class History:
    """Computes scores from evaluations.

    Memory is bounded by the number of segments, not by the length of the stream. R has one row, and the list
    of switches one entry, for each segment. min-ACC, anytime accuracy and the windows are running values over
    *every* evaluation, so they do not depend on the thinned curve. The curve keeps at most `CURVE_POINTS`
    evaluations, besides that of the untrained learner and those at the ends of segments.

    min-ACC includes evaluations on whole probes and on subsets, from the first one after a probe's segment
    ended for the first time, except while that segment is learned again. Windows of ``w`` evaluations compare
    accuracies on the subsets, because accuracies on different images are not comparable. For the same reason,
    forgetting in a stream without segment names is the best accuracy on the subset since learning began,
    minus the latest. Once a segment is named, the rows of R count instead.

    ``least`` successive records of one name make a segment (`SegmentTracker`).
    """

    def __init__(self, probes: Sequence[str], w: int = WINDOW, least: int = MIN_SEGMENT) -> None:
        if len(set(probes)) < len(probes):
            raise ValueError(f"two probes have the same name: {', '.join(probes)}")
        self._state = HistoryState(tuple(probes), w, tracker=SegmentTracker(least))

    @property
    def probes(self) -> Sequence[str]:
        """Names of the probes: the columns of R."""
        return self._state.probes

    @property
    def samples(self) -> int:
        """Samples learned."""
        return self._state.prequential.samples

    @property
    def prequential(self) -> Prequential:
        """Prequential accuracy on the stream."""
        return self._state.prequential

    @property
    def estimated(self) -> EstimatedAccuracy:
        """Accuracy on the stream, estimated from confidences; nothing is added to it unless asked for."""
        return self._state.estimated

    @property
    def stream_scores(self) -> dict[str, float | None]:
        """The present scores of the stream itself, by name; the others change only with evaluations."""
        return compute_stream_scores(self._state)

    @property
    def segments(self) -> list[str]:
        """The segments visited so far, in order; the last one may still continue."""
        return [switch.segment for switch in self._state.switches]

    @property
    def switches(self) -> Sequence[Switch]:
        """The start of each segment; the latest may be `unconfirmed`."""
        return tuple(self._state.switches)

    @property
    def unconfirmed(self) -> Switch | None:
        """The latest switch while it may still be withdrawn; otherwise None."""
        return self._state.switches[-1] if self._state.unconfirmed is not None else None

    @property
    def withdrawn_at(self) -> int | None:
        """Samples learned when a switch was last withdrawn; None if none was."""
        return self._state.withdrawn_at

    @property
    def tracker(self) -> SegmentTracker:
        """A copy of the segment tracker, for reading ahead of what is learned."""
        return replace(self._state.tracker)

    @tracker.setter
    def tracker(self, tracker: SegmentTracker) -> None:
        self._state.tracker = replace(tracker)

    @property
    def boundaries(self) -> Sequence[Boundary]:
        """Boundaries detected in the stream itself; `switches` holds the ground truth."""
        return tuple(self._state.boundaries)

    @property
    def regimes(self) -> Sequence[Regime]:
        """The assigned regimes."""
        return tuple(self._state.regimes)

    @property
    def points(self) -> Sequence[Point]:
        """The thinned curve, in chronological order."""
        state = self._state
        points = [*state.landmarks, *state.curve.kept]
        if state.unconfirmed is not None:
            points += state.unconfirmed.points
        return tuple(sorted(points, key=lambda point: (point.visit, point.samples, point.ends_segment)))

    @property
    def by_class(self) -> Sequence[ByClass]:
        """Evaluations by class, thinned, in chronological order; the last one is included."""
        kept, last = list(self._state.by_class.kept), self._state.last_by_class
        if last is not None and last not in kept[-1:]:
            kept.append(last)
        return tuple(kept)

    @property
    def evaluated_at(self) -> int:
        """Samples learned at the last evaluation."""
        return 0 if self._state.last is None else self._state.last.samples

    @property
    def closed(self) -> bool:
        """Whether the last evaluation was on whole probes, at the end of all that was learned."""
        last, switches = self._state.last, self._state.switches
        if last is None or not self.measured:
            return False
        return last.visit == len(switches) and (last.ends_segment or not switches)

    @property
    def measured(self) -> bool:
        """Whether the last evaluation was on whole probes, and nothing was learned since."""
        last = self._state.last
        return last is not None and last.full and last.samples == self.samples

    def snapshot(self) -> HistorySnapshot:
        """Return what the history holds now, for readers in other threads."""
        return HistorySnapshot(
            probes=self.probes,
            segments=tuple(self.segments),
            switches=self.switches,
            boundaries=self.boundaries,
            regimes=self.regimes,
            points=self.points,
            by_class=self.by_class,
        )

    def withhold_prequential(self) -> None:
        """Delete the numbers of correct predictions, which a policy does not allow to be published."""
        state = self._state
        state.prequential = Prequential(samples=self.samples, withheld=self.samples)
        state.estimated = EstimatedAccuracy()
        state.landmarks = [_withheld(point) for point in state.landmarks]
        state.curve.kept = [_withheld(point) for point in state.curve.kept]
        if state.unconfirmed is not None:
            state.unconfirmed.points = [_withheld(point) for point in state.unconfirmed.points]
        state.last = None if state.last is None else _withheld(state.last)

    def withhold_names(self) -> None:
        """Replace the names of segments without a probe: a policy does not allow header text to be stored."""
        self._state.switches = [
            switch if switch.segment in self.probes else replace(switch, segment=UNNAMED)
            for switch in self._state.switches
        ]

    def learned(self, samples: int, correct: int | None) -> None:
        """Add a learned batch, of which ``correct`` samples were predicted correctly before.

        ``correct`` is None if a policy withholds it.
        Raises ValueError unless 0 ≤ correct ≤ samples and samples ≥ 1.
        """
        self._state.prequential.add(samples, correct)

    def segment_started(self, name: str, samples: int | None = None, *, confirmed: bool = True) -> None:
        """Record that segment ``name`` begins with the next sample, or after ``samples`` samples if given.

        Unless ``confirmed``, `segment_confirmed` or `segment_withdrawn` must follow before the next segment.
        If the segment that ends has no row of R yet, the last evaluation becomes its row, provided that it
        was on whole probes and nothing was learned since: segments of one batch share a row. Raises
        ValueError while the latest segment is unconfirmed.
        """
        state = self._state
        if state.unconfirmed is not None:
            raise ValueError(f"segment {state.switches[-1].segment} is not confirmed yet")
        if state.switches and len(state.R) == len(state.switches) and state.last and self.measured:
            state.R.append(list(state.last.accuracy))
        if not confirmed:
            state.unconfirmed = state.undo()
        if name in self.probes and name not in self.segments:
            state.windows[self.probes.index(name)].begin()
        state.best.clear()
        state.switches.append(Switch(self.samples if samples is None else samples, name))

    def segment_confirmed(self) -> None:
        """Confirm the latest segment. Raises ValueError if none is unconfirmed."""
        state = self._state
        if state.unconfirmed is None:
            raise ValueError("no segment is unconfirmed")
        points, state.unconfirmed = state.unconfirmed.points, None
        for point in points:
            self._keep(point)

    def segment_withdrawn(self) -> Switch:
        """Withdraw the latest segment, continue the one before, and return the withdrawn switch.

        The state is as if the evaluations since then, including the one that closed the previous segment,
        had been made within that segment. Raises ValueError if no segment is unconfirmed.
        """
        state = self._state
        if (undo := state.unconfirmed) is None:
            raise ValueError("no segment is unconfirmed")
        state.unconfirmed = None
        switch = state.switches.pop()
        visit = len(state.switches)
        state.minima, state.best, state.windows = undo.minima, undo.best, undo.windows
        state.anytime_sum, state.anytime_count = undo.anytime_sum, undo.anytime_count
        if visit:
            del state.R[visit:]
            state.withdrawn_at = self.samples
            if state.landmarks and state.landmarks[-1].visit == visit:
                state.curve.add(replace(state.landmarks.pop(), ends_segment=False))
        if state.last is not None and state.last.visit >= visit:
            state.last = replace(state.last, visit=visit, ends_segment=False)
        for point in undo.points:
            again = self._scored(replace(point, visit=visit, ends_segment=False))
            then = {name: value for name, value in point.scores.items() if name in _OF_STREAM}
            state.last = replace(again, scores=again.scores | then)
            self._keep(state.last)
        return switch

    def boundary_detected(self, signal: str, late: int = 0) -> None:
        """Record a boundary that ``signal`` detected; its evidence was sufficient ``late`` samples ago."""
        if len(self._state.boundaries) < MOST_BOUNDARIES:
            self._state.boundaries.append(Boundary(self.samples, signal, late))

    def regime_assigned(self, regime: int) -> None:
        """Record that ``regime`` was assigned."""
        if len(self._state.regimes) < MOST_BOUNDARIES:
            self._state.regimes.append(Regime(self.samples, regime))

    def evaluated(self, event: Evaluated) -> ScoresUpdated:
        """Add an evaluation, and return the scores and R after it.

        The full evaluation before the first sample is row 0 of R; one that ends segment i is row i.
        Repeating the latest replaces its row. Raises ValueError for other probes, another visit than the
        current one, or missing rows.
        """
        state = self._state
        if tuple(event.readings) != state.probes:
            raise ValueError(f"probes {', '.join(event.readings)}, expected {', '.join(state.probes)}")
        if event.visit != len(state.switches):
            raise ValueError(f"evaluation of visit {event.visit} during visit {len(state.switches)}")
        state.last = self._scored(self._point(event))
        state.readings = tuple(event.readings.values())
        self._keep_by_class(state.last)
        if state.unconfirmed is None:
            self._keep(state.last)
        else:
            state.unconfirmed.points.append(state.last)
        return self._measured(state.last)

    def _scored(self, point: Point) -> Point:
        """Update the running values with an evaluation, and return it with its scores."""
        state, row = self._state, point.accuracy
        if self._is_landmark(point):
            self._set_row(point.visit, list(row))
        visits = state.visits
        first = score_formulas.first_visits(visits)
        for j in first:
            if j != visits[-1]:
                name = state.probes[j]
                state.minima[name] = min(row[j], state.minima.get(name, row[j]))
        for window, accuracy in zip(state.windows, point.on_subset, strict=True):
            window.add(accuracy)
        if not state.switches and point.samples:
            for name, accuracy in zip(state.probes, point.on_subset, strict=True):
                state.best[name] = max(accuracy, state.best.get(name, 0.0))
        if first:
            state.anytime_sum += fmean(row[j] for j in first)
            state.anytime_count += 1
        return replace(point, scores=compute_scores(state, point).defined())

    def latest(self) -> ScoresUpdated | None:
        """Return the scores after the last evaluation; None before the first."""
        last = self._state.last
        return None if last is None else self._measured(last)

    def _measured(self, last: Point) -> ScoresUpdated:
        R = tuple(tuple(kept) for kept in self._state.R)
        readings = dict(zip(self.probes, self._state.readings, strict=True))
        return ScoresUpdated(
            samples=last.samples,
            readings=readings,
            scores=compute_scores(self._state, last),
            forgetting_by_probe=compute_forgetting(self._state, last),
            R=R,
            segments=tuple(self.segments),
            probes=self.probes,
        )

    def to_json(self) -> "JSON":
        """Return the state as plain JSON; floats survive `json` bit for bit."""
        return cast("JSON", _STATE.dump_python(self._state, mode="json"))

    @classmethod
    def from_json(cls, value: "JSON") -> "History":
        """Return the history with the state that `to_json` returned. Raises InvalidFile for anything else."""
        try:
            state = _STATE.validate_python(value)
        except ValidationError as error:
            raise InvalidFile(f"not an evaluation history: {error}") from error
        if isinstance(value, dict) and "tracker" not in value:
            state.track_from_here()
        history = cls(state.probes)
        history._state = state
        return history

    @classmethod
    def following(cls, earlier: Sequence["History"]) -> "History":
        """Return the history of a run that follows on ``earlier`` ones, whose states were merged.

        Their samples and the predictions of these count; evaluations begin anew, with the first one's probes.
        """
        first, counts = earlier[0]._state, [history.prequential for history in earlier]
        history = cls(first.probes, first.w, first.tracker.least)
        samples = sum(count.samples for count in counts)
        history._state.prequential = Prequential(
            samples, sum(count.correct for count in counts), withheld=sum(count.withheld for count in counts)
        )
        history._state.began = samples
        history._state.tracker = SegmentTracker(first.tracker.least, samples, steady_at=samples)
        return history

    def _set_row(self, visit: int, row: list[float]) -> None:
        R = self._state.R
        if visit not in (len(R) - 1, len(R)):
            raise ValueError(
                f"row {visit} of R cannot follow {len(R)} rows: every segment's end is evaluated"
            )
        R[visit:] = [row]

    def _point(self, event: Evaluated) -> Point:
        readings = event.readings.values()
        return Point(
            event.samples,
            tuple(float(reading.accuracy) for reading in readings),
            tuple(reading.on_subset for reading in readings),
            tuple(reading.ece for reading in readings),
            event.full,
            event.visit,
            event.ends_segment,
            self._state.prequential.fading,
        )

    def _is_landmark(self, point: Point) -> bool:
        """Return whether the evaluation is a row of R: before anything is learned, or at a segment's end."""
        # a stream without segments stays in visit 0: only the evaluation before its first sample is row 0
        first = point.full and point.visit == 0 and point.samples == self._state.began
        return point.ends_segment or first

    def _keep(self, point: Point) -> None:
        if self._is_landmark(point):
            self._state.landmarks.append(point)
        else:
            self._state.curve.add(point)

    def _keep_by_class(self, point: Point) -> None:
        state = self._state
        by_class = tuple(reading.by_class for reading in state.readings)
        if any(by_class):
            state.last_by_class = ByClass(point.samples, point.full, by_class)
            state.by_class.add(state.last_by_class)


def _withheld(point: Point) -> Point:
    scores = {name: score for name, score in point.scores.items() if name not in _OF_STREAM}
    return replace(point, prequential_fading=None, scores=scores)
