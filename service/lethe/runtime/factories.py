"""Creates the components of a run from its settings, and rejects settings that cannot be used."""

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

import torch
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from lethe.drift.detector import BoundaryDetector
from lethe.errors import InvalidSetting
from lethe.evaluation.evaluator import Evaluator
from lethe.learners.base import Learner, LearnerContext, Retention
from lethe.learners.registry import create, find
from lethe.learners.state import JSON
from lethe.observability.reader_processes import ReaderProcesses
from lethe.privacy.controls import Controls
from lethe.probeset import ProbeSet, load_folder
from lethe.runtime.labels import Labels
from lethe.settings import DriftSettings, EvaluationSettings, LearnerSettings, Settings
from lethe.wire import Layout

__all__ = [
    "build_labels",
    "create_detector",
    "create_evaluator",
    "create_learner",
    "create_registry",
    "device_of",
    "export_reader_processes",
    "load_probes",
    "with_learners_defaults",
]

NUMBERS: Final = Labels()
"""Labels are numbers."""


def with_learners_defaults(settings: Settings) -> Settings:
    """Return ``settings`` with the learner's own batch size and cadence of evaluations, unless given.

    Raises InvalidSetting for a learner that does not exist.
    """
    kind, batch, evaluation = find(settings.learner.name), settings.batch, settings.evaluation
    if "size" not in batch.model_fields_set:
        batch = batch.model_copy(update={"size": kind.batch_size})
    if "every" not in evaluation.model_fields_set:
        evaluation = evaluation.model_copy(update={"every": kind.evaluate_every})
    return settings.model_copy(update={"batch": batch, "evaluation": evaluation})


def create_learner(settings: LearnerSettings, layout: Layout, batch_size: int | None = None) -> Learner:
    """Return the learner that ``settings`` name, on their device and number of threads.

    It will learn in batches of ``batch_size`` samples; None is as many as are its default.

    Raises InvalidSetting for a learner that does not exist or does not support the layout, for a bad
    option, and for a device that this machine does not have.
    """
    torch.manual_seed(settings.seed)  # torch starts every process with another seed
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device, size = device_of(settings), batch_size or find(settings.name).batch_size
    context = LearnerContext(layout, settings.seed, device, settings.options, size)
    try:
        return create(settings.name, context)
    except ValueError as error:
        raise InvalidSetting(f"learner {settings.name}: {error}") from error


def device_of(settings: LearnerSettings) -> torch.device:
    """Return the device for tensors; raises InvalidSetting for one that this machine does not have."""
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise InvalidSetting("learner.device cuda: torch finds no CUDA device; auto uses the CPU then")
    return torch.device("cuda" if settings.device != "cpu" and available else "cpu")


def load_probes(settings: EvaluationSettings, layout: Layout, labels: Labels = NUMBERS) -> list[ProbeSet]:
    """Return the probe sets in the folder that ``settings`` name; none without a folder.

    Raises InvalidSetting for probes of another layout or with other labels than the stream's, InvalidFile
    for unreadable ones.
    """
    if settings.probes is None:
        return []
    probes = load_folder(settings.probes)
    for probe in probes:
        if not len(probe.y_N):
            raise InvalidSetting(f"evaluation.probes: {probe.name} has no samples")
        if labels.names is not None:
            _check_names(probe, labels)
        numbered = labels.names is None and probe.y_N.max() >= layout.classes
        if probe.x_NCHW.shape[1:] != layout.shape or numbered:
            raise InvalidSetting(
                f"evaluation.probes: {probe.name} has {_kind(probe.x_NCHW.shape[1:])} and labels up to "
                f"{probe.y_N.max()}, the stream has {_kind(layout.shape)} and labels up to"
                f" {layout.classes - 1}"
            )
    return probes


def _kind(shape: tuple[int, ...]) -> str:
    return f"vectors of {shape[0]}" if len(shape) == 1 else f"images of {'×'.join(map(str, shape))}"


def _check_names(probe: ProbeSet, labels: Labels) -> None:
    if not probe.classes:
        raise InvalidSetting(
            f"evaluation.probes: the labels of {probe.name} are numbers, those of the stream are names: "
            "write it with the names of its classes"
        )
    if unknown := sorted(set(probe.classes) - set(labels.names or ())) if not labels.collected else []:
        raise InvalidSetting(
            f"evaluation.probes: {probe.name} has class {unknown[0]!r}, which is not in labels.names"
        )


def create_evaluator(
    probes: list[ProbeSet], settings: Settings, rank: int = 0, ranks: int = 1
) -> Evaluator | None:
    """Return an evaluator on the part of ``probes`` of one of so many ranks; None without any."""
    if not probes:
        return None
    evaluation = settings.evaluation
    memory = evaluation.feature_memory << 20
    return Evaluator(probes, evaluation.subset, settings.learner.seed, memory, rank, ranks)


def create_detector(
    settings: DriftSettings, stored: JSON, controls: Controls, kind: type[Learner]
) -> BoundaryDetector | None:
    """Return a boundary detector, in the state ``stored`` in a checkpoint; None if a policy forbids it."""
    if not controls.detects_boundaries(kind):
        return None
    return BoundaryDetector.from_json(stored, settings.threshold)


def create_registry() -> CollectorRegistry:
    """Return a registry for one run, with prometheus_client's collectors for the process."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


@contextmanager
def export_reader_processes(registry: CollectorRegistry, pids: Callable[[], Sequence[int]]) -> Iterator[None]:
    """Export the reader process and those that decode for it, within the context.

    Memory limits apply to them and to the service together.
    """
    collector = ReaderProcesses(pids)
    registry.register(collector)
    try:
        yield
    finally:  # another process may get their numbers later
        registry.unregister(collector)


def build_labels(learner: Learner, retention: Retention) -> dict[str, str]:
    """Return the labels of ``lethe_build_info``."""
    return {
        "version": version("lethe"),
        "learner": learner.name,
        "retains": retention.value,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
