"""The parts of a run, made from the settings that name them; bad settings are refused here."""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from service.drift.watch import Watch
from service.errors import InvalidSetting
from service.evaluation.evaluator import Evaluator
from service.learners import create
from service.learners.base import JSON, Learner, LearnerContext, Retention
from service.privacy.policy import Policy
from service.probeset import ProbeSet, load_folder
from service.settings import DriftSettings, EvaluationSettings, LearnerSettings, Settings
from service.wire import Layout

__all__ = [
    "build_labels",
    "create_evaluator",
    "create_learner",
    "create_registry",
    "create_watch",
    "device_of",
    "export_feeder",
    "load_probes",
]

logger = logging.getLogger("lethe")


def create_learner(settings: LearnerSettings, layout: Layout) -> Learner:
    """Return the learner that ``settings`` name, on their device and threads.

    Raises InvalidSetting for a learner that does not exist or cannot take the layout, for a bad
    option, and for a device that this machine does not have.
    """
    torch.manual_seed(settings.seed)  # torch itself begins with another seed in every process
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = device_of(settings)
    try:
        return create(settings.name, LearnerContext(layout, settings.seed, device, settings.options))
    except ValueError as error:
        raise InvalidSetting(f"learner {settings.name}: {error}") from error


def device_of(settings: LearnerSettings) -> torch.device:
    """Return where tensors live; raises InvalidSetting for a device that this machine does not have."""
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise InvalidSetting("learner.device cuda: torch finds no CUDA device; auto takes the CPU then")
    return torch.device("cuda" if settings.device != "cpu" and there else "cpu")


def load_probes(settings: EvaluationSettings, layout: Layout) -> list[ProbeSet]:
    """Return the probe sets, none without a folder.

    Raises InvalidSetting for probes of another layout than the stream's, InvalidFile.
    """
    if settings.probes is None:
        return []
    probes = load_folder(settings.probes)
    for probe in probes:
        if not len(probe.y_N):
            raise InvalidSetting(f"evaluation.probes: {probe.name} has no images")
        labels = range(layout.classes)
        if probe.x_NCHW.shape[1:] != layout.shape or not {probe.y_N.min(), probe.y_N.max()} <= set(labels):
            raise InvalidSetting(
                f"evaluation.probes: {probe.name} has images of {probe.x_NCHW.shape[1:]} and labels up to "
                f"{probe.y_N.max()}, the stream's are {layout.shape} and up to {layout.classes - 1}"
            )
    return probes


def create_evaluator(probes: list[ProbeSet], settings: Settings) -> Evaluator | None:
    """Return what measures on ``probes``; None where there are none."""
    return Evaluator(probes, settings.evaluation.subset, settings.learner.seed) if probes else None


def create_watch(
    settings: DriftSettings, kept: JSON, policy: Policy | None, learner: type[Learner]
) -> Watch | None:
    """Return what finds boundaries, as it was ``kept`` in a checkpoint; None where a policy forbids it.

    What they are found by are sums over images and losses: statistics, and without noise. A ``learner``
    that would do something at a boundary then never does, which the log says.
    """
    if policy is not None and (policy.budget is not None or not policy.allows(Retention.STATISTICS)):
        if learner.boundary is not Learner.boundary:
            logger.warning(
                "under policy %s boundaries are not looked for, and %s hears of none: it learns on as if "
                "the stream never changed",
                policy.name,
                learner.name,
            )
        return None
    return Watch.going_on(kept, settings.threshold)


def create_registry() -> CollectorRegistry:
    """Return a registry of this run's own, with what Prometheus' libraries say of a process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


@contextmanager
def export_feeder(registry: CollectorRegistry, pid: int | None) -> Iterator[None]:
    """Meanwhile, let ``registry`` say the same of the feeder's process: limits of memory are for both."""
    collector = ProcessCollector("lethe_feeder", lambda: pid or 0, registry=registry)
    try:
        yield
    finally:  # its number may be another's by and by
        registry.unregister(collector)


def build_labels(learner: Learner) -> dict[str, str]:
    """Return the labels of ``lethe_build_info``."""
    return {
        "version": version("lethe"),
        "learner": learner.name,
        "retains": learner.retains.value,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
