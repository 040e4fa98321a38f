"""State folders as a service leaves them, without a broker."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor

from lethe.checkpointing.checkpoint import Checkpoint
from lethe.checkpointing.state_folder import StateFolder
from lethe.evaluation.history import History
from lethe.events import Resumed
from lethe.learners.base import Learner, LearnerContext, Retention
from lethe.learners.registry import create
from lethe.learners.state import JSON
from lethe.privacy.audit.receipt_writer import open_receipts
from lethe.privacy.controls import PolicyControls
from lethe.privacy.policy import Policy
from lethe.runtime.resume import fingerprint
from lethe.settings import Settings
from lethe.stream.source import Position
from lethe.wire import Layout
from tests.support.filled import filled

__all__ = ["CONTEXTS", "LAYOUT", "WARD", "images", "learned", "new_learner", "service_state"]

LAYOUT: Final = Layout(height=8, width=8, classes=4)
WARD: Final = Policy(name="ward", retention=Retention.STATISTICS)
CONTEXTS: Final[Mapping[str, LearnerContext]] = {
    "ridge": LearnerContext(LAYOUT, options={"waves": 150, "first_refresh": 16}),
    "slda": LearnerContext(LAYOUT, options={"waves": 50, "first_refresh": 16, "shrinkage": 0.1}),
    "ncm": LearnerContext(LAYOUT, options={"waves": 50}),
}
"""What each learner of sums is built from here."""
BATCH: Final = 40


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random images of `LAYOUT`, with random labels."""
    generator = torch.Generator().manual_seed(seed)
    x_NCHW = torch.randint(256, (count, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_NCHW, torch.randint(LAYOUT.classes, (count,), generator=generator)


def new_learner(name: str) -> Learner:
    return create(name, CONTEXTS[name])


def learned(name: str, x_NCHW: Tensor, y_N: Tensor) -> Learner:
    """A learner that has learned everything at once."""
    learner = new_learner(name)
    learner.learn(x_NCHW, y_N)
    return learner


def service_state(
    folder: Path,
    x_NCHW: Tensor,
    y_N: Tensor,
    name: str = "ridge",
    *,
    partition: int = 0,
    first: int = 0,
    topic_id: str | None = "id",
    policy: Policy = WARD,
    layout: Layout = LAYOUT,
    settings: Mapping[str, Mapping[str, JSON]] | None = None,
) -> Path:
    """Write the state of a service that learned these samples, from offset ``first`` of a partition on.

    ``settings`` are sections of settings, which are added to those of the learner.
    """
    sample = layout.model_dump(exclude_unset=True)
    options = dict(CONTEXTS[name].options)
    about: dict[str, Any] = {"learner": {"name": name, "options": options}, "sample": sample}
    for section, values in (settings or {}).items():
        about[section] = about.get(section, {}) | dict(values)
    given = Settings.read(about)
    context = LearnerContext(given.sample, given.learner.seed, options=given.learner.options)
    learner, history, at = create(given.learner.name, context), History([]), first
    controls = PolicyControls(policy)
    with StateFolder(folder, keep=10) as state:
        receipts = open_receipts(state, given.stream.topic, learner.retains, controls, None)
        for x_BCHW, y_B in zip(torch.split(x_NCHW, BATCH), torch.split(y_N, BATCH), strict=True):
            predicted_B = learner.learn(x_BCHW, y_B).predicted_B
            history.learned(len(y_B), int((predicted_B == y_B).sum()))
            receipts.discarded(filled(at, len(y_B), partition), time.monotonic(), history.samples)
            at += len(y_B)
            made = Checkpoint(
                fingerprint=fingerprint(given),
                position=Position({partition: at}, 0, topic_id),
                learner=learner.state(),
                random={},
                history=history.to_json(),
                counts=cast("JSON", asdict(Resumed(history.samples, history.samples, {}, 0))),
                samples=history.samples,
                ledger=receipts.snapshot(),
            )
        state.write(made)
        receipts.on_disk(made)
    return folder
