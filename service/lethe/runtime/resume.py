"""Takes checkpoints of a run, restores a run from one, and checks that its settings still match."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor

from lethe.checkpointing.checkpoint import Checkpoint, load_learner
from lethe.drift.detector import BoundaryDetector
from lethe.errors import InvalidSetting
from lethe.evaluation.history import History
from lethe.events import MIN_SEGMENT, Emit, RegimeAssigned, Resumed, SegmentStarted
from lethe.learners.base import Learner
from lethe.learners.registry import find
from lethe.learners.state import JSON
from lethe.observability.run_state import RunState
from lethe.privacy.audit.receipt_writer import Receipts
from lethe.probeset import load_folder
from lethe.runtime.factories import device_of
from lethe.runtime.snapshot import StateSnapshots
from lethe.settings import Settings
from lethe.stream.source import Position
from lethe.wire.class_names import read_class_names

__all__ = ["check_fingerprint", "fingerprint", "restore", "resumed", "run_id", "take_checkpoint"]

logger = logging.getLogger("lethe")

EXACT: Final = frozenset({"learner.device", "learner.threads", "batch.linger"})
"""Settings that change the last bits of the weights, or the batches, but not what is learned. A service
can be moved to another machine; a warning says that from there on the run is not reproduced bit for bit."""
ADDED: Final[dict[str, JSON]] = {
    "evaluation.min_segment": MIN_SEGMENT,
    "labels.max_classes": None,
    "labels.names": None,
    "labels.topic": "",
    "labels.unlabelled": "refuse",
    "run.average_every": 1,
    "sample.fit": "refuse",
    "sample.formats": "png,raw",
}
"""Settings that older checkpoints lack, with the value that applied when these were written."""


def fingerprint(settings: Settings) -> dict[str, JSON]:
    """Return the settings that determine what is learned and what the measurements mean."""
    options = find(settings.learner.name).Options.of(settings.learner.options)
    return {
        "learner.name": settings.learner.name,
        "learner.seed": settings.learner.seed,
        **{f"learner.options.{name}": value for name, value in options.model_dump(mode="json").items()},
        "learner.device": device_of(settings.learner).type,
        "learner.threads": settings.learner.threads or torch.get_num_threads(),
        "batch.size": settings.batch.size,
        "batch.linger": settings.batch.linger,
        **{f"sample.{name}": value for name, value in settings.sample.model_dump().items()},
        "labels.max_classes": settings.labels.max_classes,
        "labels.names": _names(settings.labels.names),
        "labels.topic": settings.labels.topic,
        "labels.unlabelled": settings.labels.unlabelled,
        "stream.topic": settings.stream.topic,
        "stream.rank": settings.stream.rank,
        "stream.world": settings.stream.world,
        "run.average_every": settings.run.average_every,
        "drift.oracle": settings.drift.oracle,
        "drift.threshold": settings.drift.threshold,
        "evaluation.every": settings.evaluation.every,
        "evaluation.subset": settings.evaluation.subset,
        "evaluation.window": settings.evaluation.window,
        "evaluation.min_segment": settings.evaluation.min_segment,
        **_probes(settings.evaluation.probes),
    }


@cache
def _probes(folder: Path | None) -> dict[str, JSON]:
    """Return the hashes of the probe sets: measurements on different probes are not comparable."""
    probes = [] if folder is None else load_folder(folder)
    return {f"evaluation.probes.{probe.name}": f"SHA-256 {probe.sha256}" for probe in probes}


@cache
def _names(path: Path | None) -> JSON:
    """Return the hash of the names in a file: with others, the same numbers mean other classes."""
    if path is None:
        return None
    return f"SHA-256 {hashlib.sha256(json.dumps(read_class_names(path)).encode()).hexdigest()}"


def run_id(settings: Settings) -> str:
    """Return a hash that identifies the run: runs with the same one learn the same."""
    decisive = {
        name: value
        for name, value in fingerprint(settings).items()
        if name not in EXACT and value != ADDED.get(name, ...)  # older versions computed the id without it
    }
    order = list(_probes(settings.evaluation.probes))  # the order is part of the history
    return hashlib.sha256(json.dumps([decisive, order], sort_keys=True).encode()).hexdigest()


def check_fingerprint(checkpoint: Checkpoint, settings: Settings) -> None:
    """Raise InvalidSetting, naming each difference, unless ``settings`` match the checkpoint's.

    A difference that changes only the last bits is logged as a warning.
    """
    was, now = ADDED | dict(checkpoint.fingerprint), fingerprint(settings)
    other = was["learner.name"] != now["learner.name"]  # its options are not comparable
    changed = {
        name: f"{name} was {was.get(name, 'not set')}, is {now.get(name, 'not set')}"
        for name in was | now
        if was.get(name, ...) != now.get(name, ...) and not (other and name.startswith("learner.options."))
    }
    differences = [difference for name, difference in changed.items() if name not in EXACT]
    if not differences and changed:
        logger.warning(
            "from here on, results are not reproducible bit for bit: %s", "; ".join(changed.values())
        )
    if differences:
        options = all(difference.startswith("learner.options.") for difference in differences)
        way = "; to continue with other options, run `lethe checkpoint rollback`" if options else ""
        raise InvalidSetting(
            f"the checkpoint in {settings.checkpoint.folder} is of another run: {'; '.join(differences)}; "
            f"--fresh starts from the beginning and sets it aside{way}"
        )


def take_checkpoint(
    settings: Settings,
    learner: Learner,
    history: History,
    run_state: RunState,
    receipts: Receipts,
    position: Position,
    unsettled: Mapping[str, int] | None = None,
    detector: BoundaryDetector | None = None,
    snapshots: StateSnapshots | None = None,
    ranks: JSON = None,
    predictions: JSON = None,
) -> Checkpoint:
    """Return a checkpoint of the run at ``position``; later learning changes nothing in it.

    ``unsettled`` counts, by reason, malformed records beyond ``position``. ``snapshots`` took the learner's
    earlier snapshots in this run, ``ranks`` say how the stream is shared between them, and ``predictions``
    where those of later records begin.
    """
    counts = run_state.counts(unsettled)
    return Checkpoint(
        fingerprint=fingerprint(settings),
        position=position,
        learner=(snapshots or StateSnapshots()).take(learner.state()),
        random=_random_states(),
        history=history.to_json(),
        counts=cast("JSON", asdict(counts)),
        samples=history.samples,
        timing=run_state.timing(),
        drift=None if detector is None else detector.to_json(),
        ledger=receipts.snapshot(),
        predictions=predictions,
        ranks=ranks,
    )


def restore(checkpoint: Checkpoint, learner: Learner, history: History, emit: Emit) -> None:
    """Load a checkpoint's state into ``learner``, and emit where the run is to every subscriber.

    Raises InvalidSetting for a different network than the checkpoint's, InvalidFile if its state does not
    fit the learner for another reason.
    """
    load_learner(learner, checkpoint)
    for device, state in checkpoint.random.items():
        if device == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available():
            torch.cuda.set_rng_state(state, device)
    prequential = history.prequential
    emit(
        replace(
            resumed(checkpoint),
            prequential=prequential.cumulative,
            prequential_fading=prequential.fading,
        )
    )
    if history.segments:
        last = history.switches[-1]
        emit(SegmentStarted(last.segment, len(history.segments), last.samples, resumed=True))
    if history.regimes:
        *before, latest_regime = history.regimes
        returned = latest_regime.regime in [earlier.regime for earlier in before]
        emit(RegimeAssigned(latest_regime.regime, returned, latest_regime.samples, resumed=True))
    latest = history.latest()
    if latest is not None:
        emit(latest)


def resumed(checkpoint: Checkpoint) -> Resumed:
    """Return the counts of the run up to ``checkpoint``, and when it last progressed."""
    counts, timing = (cast("dict[str, Any] | None", part) for part in (checkpoint.counts, checkpoint.timing))
    names = {"progressed", "violated", "lost_at"}
    times = {name: when for name, when in (timing or {}).items() if name in names}
    return replace(Resumed(**counts or {}), **times)


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return states
