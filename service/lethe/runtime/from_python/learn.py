"""Learns a feed in memory with the service's loop, evaluation and boundary detection."""

from collections.abc import Callable, Sequence

from lethe.drift.detector import BoundaryDetector
from lethe.evaluation.history import History
from lethe.events import Event
from lethe.ingest.memory_feed import MemoryFeed
from lethe.learners.base import Learner
from lethe.observability.run_state import RunState
from lethe.probeset import ProbeSet
from lethe.runtime.factories import create_evaluator
from lethe.runtime.loop import Loop
from lethe.runtime.predictions import Predictions
from lethe.settings import Settings

__all__ = ["learn_feed"]


def learn_feed(
    learner: Learner,
    feed: MemoryFeed,
    probes: Sequence[ProbeSet],
    settings: Settings,
    *,
    class_names: Sequence[str] = (),
    predictions: Predictions | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> RunState:
    """Learn ``feed`` once, evaluate as ``settings`` say, and return the state of the run.

    ``predictions`` takes what is predicted for each batch.
    ``on_event`` is called with each event, after the run's own state has handled it. The feed's slots are
    overwritten at the end. Raises the LetheError that ends the run.
    """
    evaluation = settings.evaluation
    history = History([probe.name for probe in probes], evaluation.window, evaluation.min_segment)
    run_state = RunState(settings, type(learner), history, class_names=class_names)

    def emit(event: Event) -> None:
        run_state(event)
        if on_event is not None:
            on_event(event)

    try:
        Loop(
            feed=feed,
            learner=learner,
            evaluator=create_evaluator(list(probes), settings),
            evaluate_every=evaluation.every,
            history=history,
            emit=emit,
            stopping=lambda: False,
            detector=BoundaryDetector(settings.drift.threshold),
            oracle=settings.drift.oracle,
            estimates=evaluation.estimate,
            predictions=predictions or Predictions(),
        ).run()
    finally:
        feed.close()
    return run_state
