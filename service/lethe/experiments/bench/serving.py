"""Measures what the live page, metrics and predictions cost learning, and the latency of predictions.

Three sides alternate within one run of a service on a topic that was filled beforehand: *alone* (no metrics,
no run state, no client), *watched* (metrics, run state, an open live page, Prometheus scraping every five
seconds) and *asked* (the same, with predictions requested at a constant rate). The service starts with an
evaluation history of two segments, so that there is something to render; nothing is evaluated meanwhile.
"""

import math
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean, stdev
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from lethe.errors import LetheError
from lethe.events import BatchLearned, Event
from lethe.experiments.bench.interleaved_timing import SETTLING, InterleavedTiming, Interval
from lethe.experiments.bench.load_client import SIDES, LoadTarget, load_client_process
from lethe.experiments.bench.pipeline import WARM_BATCHES, filled_topic, learn_topic, noise_images
from lethe.experiments.bench.random_orders import random_orders
from lethe.experiments.bench.synthetic_history import resume_events, synthetic_history
from lethe.learners.base import Learner
from lethe.learners.registry import find
from lethe.observability.metrics import Metrics
from lethe.observability.run_state import RunState
from lethe.privacy.status import PolicyStatus
from lethe.runtime.factories import create_learner
from lethe.settings import BatchSettings, LearnerSettings, Settings
from lethe.web.app import create_app
from lethe.web.predict import PredictEndpoint
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from lethe.wire import PNG, Sample, encode

__all__ = ["LoadClientFailed", "Ratio", "ServingBench", "ServingCost", "bench_serving"]

SHORTEST: Final = 4096
"""Samples per turn: about a second."""
LONGEST: Final = 100_000
"""Samples per run over the topic, all of which are in memory."""


class LoadClientFailed(LetheError):
    """The load client failed, so that nothing was measured."""


@dataclass(frozen=True)
class ServingBench:
    """Options of the benchmark."""

    learner: str = "finetune"
    threads: int = 2
    rate: float = 20.0
    """Requests per second, one PNG each."""
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    rounds: int = 40
    """Turns of each side."""

    @property
    def samples(self) -> int:
        """Samples per turn; at least one refresh interval of the learner, if it has one."""
        return max(SHORTEST, getattr(find(self.learner).Options(), "refresh_every", 0))

    @property
    def laps(self) -> int:
        """Rounds per run over the topic."""
        return min(self.rounds, max(1, LONGEST // (len(SIDES) * self.samples)))


@dataclass(frozen=True, slots=True)
class Ratio:
    """Mean of a ratio over the rounds, and its standard error; None for a single round."""

    value: float
    error: float | None

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        """Compute it from the ratios of at least one round."""
        error = stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else None
        return cls(fmean(ratios), error)


@dataclass
class ServingCost:
    """Samples learned per second in each round, and the latency of every request in seconds."""

    speeds: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    latencies: list[float] = field(default_factory=list)

    @property
    def watched(self) -> Ratio:
        """Speed while watched relative to alone."""
        return self._ratio("watched", "alone")

    @property
    def asked(self) -> Ratio:
        """Speed while predictions are requested relative to watched."""
        return self._ratio("asked", "watched")

    def latency(self, share: float) -> float:
        """Return the latency in seconds that a fraction ``share`` of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def _ratio(self, one: str, other: str) -> Ratio:
        return Ratio.of([a / b for a, b in zip(self.speeds[one], self.speeds[other], strict=True)])


def bench_serving(bench: ServingBench, seed: int = 0) -> Iterator[ServingCost]:
    """Yield the measurements so far after each run over the topic.

    Raises LetheError if the broker cannot be reached, the learner does not exist or the client fails.
    """
    size = find(bench.learner).batch_size
    turn = SETTLING + bench.samples + 2 * size  # plus the batch that a turn ends in
    count = WARM_BATCHES * size + bench.laps * len(SIDES) * turn
    x_NCHW, y_N = noise_images(Settings().sample, count, seed)
    image = encode(Sample(x_NCHW[0], 0), PNG)[0]
    orders, cost = random_orders(SIDES, seed), ServingCost()
    with filled_topic(bench.broker, x_NCHW, y_N) as stream:
        settings = Settings(
            stream=stream.model_copy(update={"stop_after": count}),
            learner=LearnerSettings(name=bench.learner, threads=bench.threads, seed=seed),
            batch=BatchSettings(size=size),
        )
        learner = create_learner(settings.learner, settings.sample, settings.batch.size)
        while len(cost.speeds[SIDES[0]]) < bench.rounds:
            order = [side for lap in islice(orders, bench.laps) for side in lap]
            intervals, answered = _run(settings, learner, bench, order, image)
            for side, interval in intervals:
                cost.speeds[side].append(interval.samples_per_second)
            asked = [interval for side, interval in intervals if side == "asked"]
            cost.latencies += [
                latency for due, latency in answered if any(turn.began <= due <= turn.ended for turn in asked)
            ]
            yield cost


def _run(
    settings: Settings, learner: Learner, bench: ServingBench, order: Sequence[str], image: bytes
) -> tuple[list[tuple[str, Interval]], list[tuple[float, float]]]:
    """Learn the topic; return the timed intervals, and the due time and latency of each request."""
    history, registry, policy_status = synthetic_history(), CollectorRegistry(), PolicyStatus()
    run_state = RunState(settings, type(learner), history)
    snapshots = PredictorSnapshots(learner)
    watching = (run_state, Metrics(registry, settings.sample.size, {}), snapshots, policy_status)
    for event in resume_events(history):
        for subscriber in watching:
            subscriber(event)
    predictions = PredictionWorker(snapshots, settings.sample)
    predict = PredictEndpoint(predictions, learner.name, settings.sample, settings.serve.max_body_bytes)
    app = create_app(run_state, registry, "bench", policy_status, predict)
    with predictions, Server(app, "127.0.0.1", 0) as server:
        place = urlsplit(server.address)
        asked = LoadTarget(str(place.hostname), place.port or 0, bench.rate, image, {"content-type": PNG})
        context = multiprocessing.get_context("spawn")
        connection, far = context.Pipe()
        process = context.Process(
            target=load_client_process, args=(far, asked), name="lethe-load-client", daemon=True
        )
        process.start()
        far.close()
        timing = InterleavedTiming(order, bench.samples, WARM_BATCHES * settings.batch.size, connection.send)

        def emit(event: Event) -> None:
            if timing.side != "alone":
                for subscriber in watching:
                    subscriber(event)
            if isinstance(event, BatchLearned):
                timing(event.samples)

        try:
            connection.recv()  # ready
            learn_topic(settings, learner, history, emit)
            connection.send("leave")
            answered, failure = connection.recv()
            if failure is not None:
                raise LoadClientFailed(f"the load client failed: {failure}")
        finally:
            connection.close()
            process.join(5)
            process.kill()
    return timing.intervals, answered
