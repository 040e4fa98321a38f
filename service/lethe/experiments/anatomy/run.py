"""Dissects every learner with every seed, two at a time."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Final

import numpy as np
import torch

from lethe.errors import InvalidSetting
from lethe.experiments.anatomy.dissection import SURFACE_COST, Dissection, dissect
from lethe.experiments.anatomy.network import Network
from lethe.experiments.anatomy.study import Study
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.gradient.base import GradientLearner, GradientOptions
from lethe.learners.registry import create
from lethe.learners.state import JSON
from lethe.learners.vector_scale import VectorOptions, VectorScale
from lethe.probeset import ProbeSet
from lethe.wire import Layout
from lethe_producers.probes import probes_of

__all__ = ["Result", "Spread", "network_of", "run_anatomy", "write_document"]

SCHEMA: Final = "lethe-anatomy/1"
WORKERS: Final = 2
"""Dissections at a time, each with one thread of torch: small batches leave two threads half idle."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation over the seeds; the deviation is None for one seed."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of values."""
        return cls(mean(values), stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True, slots=True)
class Result:
    """The dissections of a study: all seeds of a learner, one learner after the other."""

    study: Study
    dissections: list[Dissection]

    def of(self, learner: str) -> list[Dissection]:
        """Return the dissections of a learner, seed 0 first."""
        return [found for found in self.dissections if found.learner == learner]

    def to_json(self) -> dict[str, object]:
        """Return everything as plain JSON."""
        study = self.study
        return {
            "schema": SCHEMA,
            "scenario": study.scenario.name,
            "old": study.old.subject,
            "new": study.new.subject,
            "switch": study.switch,
            "samples": study.samples,
            "seeds": study.seeds,
            "options": dict(study.options),
            "dissections": [asdict(found) | _derived(found) for found in self.dissections],
        }


def _derived(found: Dissection) -> dict[str, float]:
    """Return what follows from other numbers of a dissection, for readers of the JSON."""
    lines = found.weights or found.solution
    barriers = {"barrier_old": lines.old_line.barrier, "barrier_new": lines.new_line.barrier} if lines else {}
    if found.weights is None:
        return barriers
    diagnosis = found.weights.diagnosis
    return {
        "lost": diagnosis.lost,
        "recovered_by_readout": diagnosis.recovered,
        "lost_in_representation": diagnosis.representation,
        **barriers,
    }


def run_anatomy(study: Study, progress: Callable[[str, int, float], None] = lambda *_: None) -> Result:
    """Dissect each learner with each seed.

    ``progress`` is called from several threads with the learner, the seed and the share that is done.
    Raises InvalidSetting as `Study.kinds` and for an option that a learner rejects, DataUnavailable if a
    data set is not on this machine.
    """
    study.kinds()
    found = {probe.name: probe for probe in probes_of(study.scenario, study.root)}
    probes = found[study.old.subject], found[study.new.subject]
    layout = study.scenario.layout
    # before the threads start: building a network seeds torch's global generator
    tasks = [
        (create(name, LearnerContext(layout, seed, options=study.options)), seed)
        for name in study.learners
        for seed in range(study.seeds)
    ]
    networks = [network_of(learner, study.options, layout) for learner, _ in tasks]
    with _one_thread_each(), ThreadPoolExecutor(WORKERS, "lethe-anatomy") as pool:
        futures = [
            pool.submit(_task, learner, study, seed, probes, network, layout.classes, progress)
            for (learner, seed), network in zip(tasks, networks, strict=True)
        ]
        return Result(study, [future.result() for future in futures])


def _as_the_network_takes_them(probe: ProbeSet, learner: Learner, options: Mapping[str, JSON]) -> ProbeSet:
    """Return a probe of vectors standardised by the scale in ``options``; one of images as it is."""
    chosen = type(learner).Options.of(options)
    if probe.x_NCHW.dtype != np.float32 or not isinstance(chosen, VectorOptions):
        return probe
    scale = VectorScale.of(Layout(features=probe.x_NCHW.shape[1]), chosen)
    if scale is None:
        return probe
    return replace(probe, x_NCHW=scale.standardised(torch.from_numpy(probe.x_NCHW)).float().numpy())


def network_of(learner: Learner, options: Mapping[str, JSON], layout: Layout) -> Network | None:
    """Return the network that a gradient learner with ``options`` trains; None for another learner."""
    if not isinstance(learner, GradientLearner):
        return None
    chosen = type(learner).Options.of(options)
    if not isinstance(chosen, GradientOptions):
        raise InvalidSetting(f"learner {learner.name}: its options name no backbone")
    return Network(chosen.backbone, layout)


def _task(
    learner: Learner,
    study: Study,
    seed: int,
    probes: tuple[ProbeSet, ProbeSet],
    network: Network | None,
    classes: int,
    progress: Callable[[str, int, float], None],
) -> Dissection:
    done, total = 0, sum(study.scenario.lengths(study.samples)[: study.switch + 1])
    if network is not None and not seed:
        total += SURFACE_COST * study.grid**2

    def tick(samples: int) -> None:
        nonlocal done
        done += samples
        progress(learner.name, seed, min(0.99, done / total))

    if network is not None:
        old, new = (_as_the_network_takes_them(probe, learner, study.options) for probe in probes)
        probes = old, new
    dissection = dissect(learner, study, seed, probes, network, classes, tick)
    progress(learner.name, seed, 1.0)
    return dissection


def write_document(document: Mapping[str, object], path: Path) -> None:
    """Write a document as JSON."""
    path.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


@contextmanager
def _one_thread_each() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
