"""What being watched and being asked cost learning, and how long an answer takes meanwhile.

Three sides take turns, within one run of a service on a topic that was filled beforehand: nobody looks
(no metrics, no journal, nobody connected); somebody watches (all of them, the live page open, Prometheus
scraping every five seconds); somebody watches and asks for predictions at a steady rate. The service has
a past of two segments, so that there is something to show; within the turns nothing is evaluated.
"""

import math
import multiprocessing
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from service.bench.past import history_of_a_run, retold
from service.bench.pipeline import WARM_BATCHES, filled_topic, images, learn_topic
from service.bench.relay import SETTLING, Relay, Stretch
from service.bench.visitor import SIDES, Visit, visit_apart
from service.errors import LetheError
from service.events import BatchLearned, Event
from service.journal import Journal
from service.learners import find
from service.learners.base import Learner
from service.metrics import Metrics
from service.parts import create_learner
from service.prediction import Predictions, Snapshots
from service.privacy.standing import Standing
from service.settings import LearnerSettings, Settings
from service.slots import BatchSettings
from service.web.app import create_app
from service.web.predict import Predict
from service.web.server import Server
from service.wire import PNG, Sample, encode

__all__ = ["Ratio", "ServingBench", "ServingCost", "VisitorFailed", "bench_serving"]

SHORTEST: Final = 4096
"""Samples of a turn: about a second's."""
LONGEST: Final = 100_000
"""Samples of the turns in one run: broker and this process hold them all."""


class VisitorFailed(LetheError):
    """What was measured is not what was to be measured."""


@dataclass(frozen=True)
class ServingBench:
    """What is measured, and how often."""

    learner: str = "finetune"
    threads: int = 2
    rate: float = 20.0
    """Requests a second, one PNG each."""
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    rounds: int = 40
    """How often each side has its turn."""

    @property
    def samples(self) -> int:
        """Of a turn: a learner that solves every so many does so once in each."""
        return max(SHORTEST, getattr(find(self.learner).Options(), "refresh_every", 0))

    @property
    def laps(self) -> int:
        """Rounds in one run over the topic, which is no longer than it has to be."""
        return min(self.rounds, max(1, LONGEST // (len(SIDES) * self.samples)))


@dataclass(frozen=True, slots=True)
class Ratio:
    """The mean of a ratio over the rounds, and its standard error, None for a single round."""

    value: float
    error: float | None

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        """Return that of at least one round."""
        error = stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else None
        return cls(fmean(ratios), error)


@dataclass
class ServingCost:
    """Samples learned a second, round by round, and the latency of every request, in seconds."""

    speeds: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    latencies: list[float] = field(default_factory=list)

    @property
    def watched(self) -> Ratio:
        """The speed while somebody watches, over that while nobody does."""
        return self._ratio("watched", "alone")

    @property
    def asked(self) -> Ratio:
        """The speed while predictions are asked for, over that without."""
        return self._ratio("asked", "watched")

    def latency(self, share: float) -> float:
        """Return the latency that ``share`` of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def _ratio(self, one: str, other: str) -> Ratio:
        return Ratio.of([a / b for a, b in zip(self.speeds[one], self.speeds[other], strict=True)])


def bench_serving(bench: ServingBench, seed: int = 0) -> Iterator[ServingCost]:
    """Yield the costs so far after each run of some rounds.

    Raises LetheError when the broker or the learner cannot be had, or the visitor breaks off.
    """
    size = find(bench.learner).batch_size
    turn = SETTLING + bench.samples + 2 * size  # what is in a batch with the end of a turn is in no other
    count = WARM_BATCHES * size + bench.laps * len(SIDES) * turn
    x_NCHW, y_N = images(Settings().sample, count, seed)
    image = encode(Sample(x_NCHW[0], 0), PNG)[0]
    rng, cost = random.Random(seed), ServingCost()  # noqa: S311 # an order, and no secret
    with filled_topic(bench.broker, x_NCHW, y_N) as stream:
        settings = Settings(
            stream=stream.model_copy(update={"stop_after": count}),
            learner=LearnerSettings(name=bench.learner, threads=bench.threads, seed=seed),
            batch=BatchSettings(size=size),
        )
        learner = create_learner(settings.learner, settings.sample)
        while len(cost.speeds[SIDES[0]]) < bench.rounds:
            order = [side for _ in range(bench.laps) for side in rng.sample(SIDES, len(SIDES))]
            stretches, answered = _run(settings, learner, bench, order, image)
            for side, stretch in stretches:
                cost.speeds[side].append(stretch.samples_per_second)
            asked = [stretch for side, stretch in stretches if side == "asked"]
            cost.latencies += [
                latency for due, latency in answered if any(turn.began <= due <= turn.ended for turn in asked)
            ]
            yield cost


def _run(
    settings: Settings, learner: Learner, bench: ServingBench, order: Sequence[str], image: bytes
) -> tuple[list[tuple[str, Stretch]], list[tuple[float, float]]]:
    """Learn the topic; return what each side learned in its turns, and each request's time and latency."""
    history, registry, standing = history_of_a_run(), CollectorRegistry(), Standing()
    journal = Journal(settings, type(learner), history)
    snapshots = Snapshots(learner)
    watching = (journal, Metrics(registry, settings.sample.size, {}), snapshots, standing)
    for event in retold(history):
        for subscriber in watching:
            subscriber(event)
    predictions = Predictions(snapshots, settings.sample)
    predict = Predict(predictions, learner.name, settings.sample, settings.serve.max_body_bytes)
    app = create_app(journal, registry, "bench", standing, predict)
    with predictions, Server(app, "127.0.0.1", 0) as server:
        place = urlsplit(server.address)
        asked = Visit(str(place.hostname), place.port or 0, bench.rate, image, {"content-type": PNG})
        context = multiprocessing.get_context("spawn")
        connection, far = context.Pipe()
        process = context.Process(target=visit_apart, args=(far, asked), name="lethe-visitor", daemon=True)
        process.start()
        far.close()
        relay = Relay(order, bench.samples, WARM_BATCHES * settings.batch.size, connection.send)

        def emit(event: Event) -> None:
            if relay.side != "alone":
                for subscriber in watching:
                    subscriber(event)
            if isinstance(event, BatchLearned):
                relay(event.samples)

        try:
            connection.recv()  # it is ready
            learn_topic(settings, learner, history, emit)
            connection.send("leave")
            answered, failure = connection.recv()
            if failure is not None:
                raise VisitorFailed(f"the visitor broke off: {failure}")
        finally:
            connection.close()
            process.join(5)
            process.kill()
    return relay.stretches, answered
