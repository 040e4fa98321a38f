"""A run into a checkpoint and back: which parts there are, and that the settings still fit."""

import hashlib
import json
import logging
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor

from service.checkpoint import Checkpoint
from service.copies import Copies
from service.drift.watch import Watch
from service.errors import InvalidSetting
from service.evaluation.history import History
from service.events import Emit, RegimeTold, Resumed, SegmentStarted
from service.journal import Journal
from service.learners import find
from service.learners.base import JSON, Learner
from service.parts import device_of
from service.privacy.receipts import Receipts
from service.probeset import load_folder
from service.settings import Settings
from service.stream.source import Position

__all__ = ["check_fingerprint", "fingerprint", "restore", "resumed", "run_id", "take"]

logger = logging.getLogger("lethe")

EXACT: Final = frozenset({"learner.device", "learner.threads", "batch.linger"})
"""What decides on the last bits, or on where batches end, and not on what is learned: a service may be
moved to another machine, and is told that from there on it is not the run that it would have been."""


def fingerprint(settings: Settings) -> dict[str, JSON]:
    """Return the settings that change what is learned, or what its history means."""
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
        "stream.topic": settings.stream.topic,
        "stream.rank": settings.stream.rank,
        "stream.world": settings.stream.world,
        "drift.oracle": settings.drift.oracle,
        "drift.threshold": settings.drift.threshold,
        "evaluation.every": settings.evaluation.every,
        "evaluation.subset": settings.evaluation.subset,
        "evaluation.window": settings.evaluation.window,
        **_probes(settings.evaluation.probes),
    }


@cache
def _probes(folder: Path | None) -> dict[str, JSON]:
    """Return what the probes are: numbers measured on others would not compare."""
    probes = [] if folder is None else load_folder(folder)
    return {f"evaluation.probes.{probe.name}": f"SHA-256 {probe.sha256}" for probe in probes}


def run_id(settings: Settings) -> str:
    """Return what tells a run from one that learns something else."""
    decisive = {name: value for name, value in fingerprint(settings).items() if name not in EXACT}
    order = list(_probes(settings.evaluation.probes))  # which a history cannot change, either
    return hashlib.sha256(json.dumps([decisive, order], sort_keys=True).encode()).hexdigest()


def check_fingerprint(checkpoint: Checkpoint, settings: Settings) -> None:
    """Raise InvalidSetting, naming each difference, unless the checkpoint is of such a run.

    A difference that only the last bits show is a warning.
    """
    was, now = dict(checkpoint.fingerprint), fingerprint(settings)
    other = was["learner.name"] != now["learner.name"]  # whose options say nothing
    changed = {
        name: f"{name} was {was.get(name, 'not there')}, is {now.get(name, 'not there')}"
        for name in was | now
        if was.get(name, ...) != now.get(name, ...) and not (other and name.startswith("learner.options."))
    }
    differences = [difference for name, difference in changed.items() if name not in EXACT]
    if not differences and changed:
        told = "; ".join(changed.values())
        logger.warning("from here on not bit for bit what it would have been: %s", told)
    if differences:
        raise InvalidSetting(
            f"the checkpoint in {settings.checkpoint.folder} is of another run: {'; '.join(differences)}; "
            "--fresh begins anew and keeps it aside"
        )


def take(
    settings: Settings,
    learner: Learner,
    history: History,
    journal: Journal,
    receipts: Receipts | None,
    position: Position,
    watch: Watch | None = None,
    copies: Copies | None = None,
) -> Checkpoint:
    """Return a snapshot of the run; nothing in it changes when learning goes on.

    ``copies`` are those that the run's earlier snapshots were made with.
    """
    counts = journal.counts()
    return Checkpoint(
        fingerprint=fingerprint(settings),
        position=position,
        learner=(copies or Copies()).of(learner.state()),
        random=_random_states(),
        history=history.to_json(),
        counts=cast("JSON", asdict(counts)),
        samples=history.samples,
        timing=journal.timing(),
        drift=None if watch is None else watch.to_json(),
        ledger=None if receipts is None else receipts.snapshot(),
    )


def restore(checkpoint: Checkpoint, learner: Learner, history: History, emit: Emit) -> None:
    """Put a run back together, and let every subscriber know where it stands."""
    learner.load_state(checkpoint.learner)
    for device, state in checkpoint.random.items():
        if device == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available():
            torch.cuda.set_rng_state(state, device)
    emit(resumed(checkpoint))
    if history.segments:
        last = history.switches[-1]
        emit(SegmentStarted(last.segment, len(history.segments), last.samples, resumed=True))
    if history.regimes:
        *before, told = history.regimes
        returned = told.regime in [earlier.regime for earlier in before]
        emit(RegimeTold(told.regime, returned, told.samples, resumed=True))
    latest = history.latest()
    if latest is not None:
        emit(latest)


def resumed(checkpoint: Checkpoint) -> Resumed:
    """Return what the run had counted, and when."""
    counts, timing = (cast("dict[str, Any] | None", kept) for kept in (checkpoint.counts, checkpoint.timing))
    told = {"progressed", "violated", "lost_at"}
    times = {name: when for name, when in (timing or {}).items() if name in told}
    return replace(Resumed(**counts or {}), **times)


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda:{i}": torch.cuda.get_rng_state(i) for i in range(torch.cuda.device_count())}
    return states
