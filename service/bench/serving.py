"""What being watched and being asked cost learning, and how long an answer takes meanwhile.

Three sides take turns, on one topic that was filled beforehand and with one learner: nobody looks
(no metrics, no journal, no server); somebody watches (all of them, the live page open, Prometheus
scraping every five seconds); somebody watches and asks for predictions at a steady rate.
"""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from service.bench.pipeline import WARM_BATCHES, Stretch, filled_topic, images, learn_topic
from service.bench.visitor import Visit, visit
from service.evaluation.history import History
from service.events import Emit
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
from service.web.predict import predict_router
from service.web.server import Server
from service.wire import PNG, Sample, encode

__all__ = ["ServingBench", "ServingCost", "bench_serving"]

SIDES: Final = ("alone", "watched", "asked")


@dataclass(frozen=True)
class ServingBench:
    """What is measured, and how often."""

    learner: str = "finetune"
    threads: int = 2
    rate: float = 20.0
    """Requests a second, one PNG each."""
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    batches: int = 200
    """Counted in a turn."""
    turns: int = 7


@dataclass
class ServingCost:
    """Samples learned a second, turn by turn, and the latency of every request, in seconds."""

    speeds: dict[str, list[float]] = field(default_factory=lambda: {side: [] for side in SIDES})
    latencies: list[float] = field(default_factory=list)

    @property
    def watching(self) -> float:
        """The share of the speed that being watched costs: the median over the turns."""
        return 1 - self._ratio("watched", "alone")

    @property
    def asking(self) -> float:
        """The speed while predictions are asked for, over that without: the median over the turns."""
        return self._ratio("asked", "watched")

    def latency(self, share: float) -> float:
        """Return the latency that ``share`` of the requests did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def _ratio(self, one: str, other: str) -> float:
        return median(a / b for a, b in zip(self.speeds[one], self.speeds[other], strict=True))


def bench_serving(bench: ServingBench, seed: int = 0) -> Iterator[ServingCost]:
    """Yield the costs so far after each turn. Raises LetheError when broker or learner cannot be had."""
    settings = Settings(
        learner=LearnerSettings(name=bench.learner, threads=bench.threads, seed=seed),
        batch=BatchSettings(size=find(bench.learner).batch_size),
    )
    count, cost = (WARM_BATCHES + bench.batches) * settings.batch.size, ServingCost()
    x_NCHW, y_N = images(settings.sample, count, seed)
    image = encode(Sample(x_NCHW[0], 0), PNG)[0]
    with filled_topic(bench.broker, x_NCHW, y_N) as stream:
        settings = settings.model_copy(update={"stream": stream.model_copy(update={"stop_after": count})})
        learner = create_learner(settings.learner, settings.sample)
        for turn in range(bench.turns):
            # whoever comes second finds warmer caches: take turns at that, too
            for place in range(len(SIDES)):
                side = SIDES[(turn + place) % len(SIDES)]
                if side == "alone":
                    stretch = learn_topic(settings, learner, History([]), [])
                else:
                    rate = bench.rate if side == "asked" else 0.0
                    stretch, latencies = _visited(settings, learner, rate, image)
                    cost.latencies += latencies
                cost.speeds[side].append(stretch.samples_per_second)
            yield cost


def _visited(settings: Settings, learner: Learner, rate: float, image: bytes) -> tuple[Stretch, list[float]]:
    """Learn the topic with a visitor; return the stretch that counts and the latencies in it."""
    history, registry, standing = History([]), CollectorRegistry(), Standing()
    journal = Journal(settings, type(learner), history)
    snapshots = Snapshots(learner)
    subscribers: list[Emit] = [journal, Metrics(registry, settings.sample.size, {}), snapshots, standing]
    predictions = Predictions(snapshots, settings.sample)
    predict = predict_router(predictions, learner.name, settings.sample, settings.serve.max_body_bytes)
    app = create_app(journal, registry, "bench", standing, predict)
    with predictions, Server(app, "127.0.0.1", 0) as server:
        place = urlsplit(server.address)
        asked = Visit(str(place.hostname), place.port or 0, rate, image, {"content-type": PNG})
        context = multiprocessing.get_context("spawn")
        connection, far = context.Pipe()
        process = context.Process(target=visit, args=(far, asked), name="lethe-visitor", daemon=True)
        process.start()
        far.close()
        try:
            connection.recv()  # it is ready
            stretch = learn_topic(settings, learner, history, subscribers)
            connection.send("over")
            answered: list[tuple[float, float]] = connection.recv()
        finally:
            connection.close()
            process.join(5)
            process.kill()
    return stretch, [latency for due, latency in answered if stretch.began <= due <= stretch.ended]
