"""Measures what several ranks are worth: three sides in turns, each of whole services on one filled topic.

*Alone* is one service. *Apart* are as many services as ranks, each of which learns its part of the stream by
itself: what the machine can do at most. *Together* are the ranks, which learn one model. Each process has one
thread, and each side as many cores as it has learners: also for its reader processes and the embedded broker,
so that the one service has no second core that the ranks must do without.

A side learns until its solutions are as rare as they stay, then it is measured: samples learned and seconds
as the service itself counts them, and the processor time of all its processes. Services start anew in each
turn, and the order of the sides is random, so that load from other processes slows down all alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx

from lethe.experiments.bench.pipeline import filled_topic, noise_images
from lethe.experiments.bench.random_orders import random_orders
from lethe.experiments.bench.ranks.cores import confined
from lethe.experiments.bench.ranks.speeds import ALONE, APART, SIDES, TOGETHER, RankSpeeds, Reached
from lethe.experiments.bench.ranks.watched import Watched, reached_between
from lethe.experiments.chaos.service import Service
from lethe.experiments.processes import Children
from lethe.learners.registry import find
from lethe.probeset import ProbeSet, save_probe
from lethe.runtime.ranks.supported import check_ranks
from lethe.settings import Settings
from lethe.stream.settings import StreamSettings
from lethe.wire import Layout

__all__ = ["RanksBench", "bench_ranks"]

ANSWER_SECONDS: Final = 30.0
PROBES: Final = ("one", "another")
PROBE_IMAGES: Final = 1000
REST_ROUNDS: Final = 8
"""Batches of each learner that are left in the topic when a turn ends: no side reaches its end."""


@dataclass(frozen=True)
class RanksBench:
    """Options of the benchmark."""

    learner: str = "ridge"
    ranks: int = 2
    batch_size: int | None = None
    """Samples of each rank in a round; None is the learner's own choice."""
    broker: str | None = None
    """HOST:PORT of a Kafka cluster; None starts the embedded broker."""
    turns: int = 5
    warm: int = 8192
    """Samples that each side learns before it is measured."""
    samples: int = 32768
    """Samples that each side learns while it is measured."""
    evaluates: bool = False
    """Whether two probes are evaluated meanwhile, as often as by default."""

    @property
    def batch(self) -> int:
        """Samples of each rank in a round."""
        return find(self.learner).batch_size if self.batch_size is None else self.batch_size

    def check(self) -> None:
        """Raise InvalidSetting for a learner that ranks cannot learn together."""
        check_ranks(_settings(self, StreamSettings(), {}, None, 0))

    @property
    def records(self) -> int:
        """Records in the topic."""
        return self.warm + self.samples + REST_ROUNDS * self.ranks * self.batch


def bench_ranks(bench: RanksBench, seed: int = 0) -> Iterator[RankSpeeds]:
    """Yield what all sides have reached after each turn.

    Raises InvalidSetting as `RanksBench.check` does, LetheError if a process cannot start.
    """
    bench.check()
    layout, speeds = Layout(), RankSpeeds()
    with (
        TemporaryDirectory(prefix="lethe-ranks-bench-") as folder,
        filled_topic(
            bench.broker, *noise_images(layout, bench.records, seed), multiple=bench.ranks
        ) as stream,
        httpx.Client(timeout=ANSWER_SECONDS) as client,
    ):
        probes = _probes(Path(folder), layout, seed) if bench.evaluates else None
        for turn, order in enumerate(islice(random_orders(SIDES, seed), bench.turns)):
            for side in order:
                services = [
                    _settings(bench, stream, chosen, probes, seed) for chosen in _services(side, bench.ranks)
                ]
                logs = Path(folder) / f"{turn}-{side}"
                with confined(1 if side == ALONE else bench.ranks) as held:
                    speeds.turns[side].append(_reached(bench, side, services, client, logs))
                speeds.confined = speeds.confined and held
            yield speeds


def _services(side: str, ranks: int) -> Sequence[Mapping[str, Mapping[str, Any]]]:
    """Return the settings, by section, in which the services of a side differ from the defaults."""
    if side == APART:
        return [{"stream": {"rank": rank, "world": ranks}} for rank in range(ranks)]
    return [{"run": {"ranks": ranks}} if side == TOGETHER else {}]


def _settings(
    bench: RanksBench,
    stream: StreamSettings,
    chosen: Mapping[str, Mapping[str, Any]],
    probes: Path | None,
    seed: int,
) -> Settings:
    place = {**stream.model_dump(exclude_unset=True), **chosen.get("stream", {})}
    return Settings.read(
        {
            "stream": place,
            "learner": {"name": bench.learner, "seed": seed, "threads": 1, "device": "cpu"},
            "batch": {"size": bench.batch},
            "evaluation": {"probes": probes},
            "run": chosen.get("run", {}),
        }
    )


def _reached(
    bench: RanksBench, side: str, services: Sequence[Settings], client: httpx.Client, logs: Path
) -> Reached:
    """Start the services of a side, and return what they reach."""
    round_samples = bench.batch * (bench.ranks if side == TOGETHER else 1)
    with Children() as children:
        running = [
            Watched(
                Service(children, client, f"service {number} of {side}", settings, logs / f"{number}.log"),
                round_samples,
                ranked=side == TOGETHER,
            )
            for number, settings in enumerate(services)
        ]
        return reached_between(running, bench.warm // len(running), bench.samples // len(running))


def _probes(folder: Path, layout: Layout, seed: int) -> Path:
    for order, name in enumerate(PROBES):
        x_NCHW, y_N = noise_images(layout, PROBE_IMAGES, seed + 1 + order)
        save_probe(ProbeSet(name, x_NCHW, y_N, "noise", "none needed"), folder / "probes", order)
    return folder / "probes"
