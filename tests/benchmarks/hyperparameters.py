"""Evaluates options of the gradient learners on MNIST and a second view of it, never on a test split.

``python -m tests.benchmarks.hyperparameters ewc --option strength=10 --view permuted`` learns the
first 50,000 training images of MNIST, in an order drawn from the seed, once as they are and once
permuted or rotated, and prints the accuracy on the other 10,000 in both views. The boundary is
reported 512 samples late, as by a detector. For the differentially private learners, which are measured on
MNIST, use another data set and a single view:
``python -m tests.benchmarks.hyperparameters dp-finetune --dataset fashion-mnist --view none``.
On a scenario, with the boundaries that are detected, ``lethe bench learners --validation`` compares options.
"""

import json
from typing import Annotated, Final, Literal

import numpy as np
import torch
import typer
from torch import Tensor

from lethe.cli.flags import read_pairs
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.registry import create
from lethe.wire import Layout, Pixels
from lethe_producers.datasets import DatasetName, default_root, load
from lethe_producers.transforms import Transform, transformed
from tests.benchmarks.command import run

__all__ = ["choose"]

VIEWS: Final = {"permuted": Transform(permute=1), "rotated": Transform(rotate=90)}
TRAINED: Final = 50_000
"""Maximum number of training images; the others are the validation split."""
LATE: Final = 512
"""Samples of the second view before the boundary is reported."""


def choose(
    learner: str,
    *,
    option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE")] = None,
    dataset: DatasetName = "mnist",
    view: Literal["permuted", "rotated", "none"] = "permuted",
    samples: Annotated[int, typer.Option(min=1, max=TRAINED)] = TRAINED,
    seed: int = 0,
) -> None:
    """Print the accuracies of one learner with some options as a line of JSON."""
    options = read_pairs("--option", option or [])
    x_NCHW, y_N = load(dataset, "train", default_root())
    order_N = np.random.default_rng(seed).permutation(len(y_N))
    x_NCHW, y_N = x_NCHW[order_N], y_N[order_N]
    views = [x_NCHW] if view == "none" else [x_NCHW, transformed(x_NCHW, [VIEWS[view]])]
    chosen = create(learner, LearnerContext(Layout(), seed, options=options))
    first: dict[int, float] = {}
    for nth, seen_NCHW in enumerate(views):
        _learn(
            chosen, seen_NCHW[:samples], torch.from_numpy(y_N[:samples]), boundary_after=LATE if nth else None
        )
        accuracy = [_accuracy(chosen, held[TRAINED:], y_N[TRAINED:]) for held in views]
        first[nth] = accuracy[nth]
    report = {"learner": learner, "options": options, "dataset": dataset, "view": view, "samples": samples}
    scores = {"acc": sum(accuracy) / len(accuracy), "bwt": accuracy[0] - first[0], "last": accuracy}
    print(json.dumps({**report, "seed": seed, **scores}))


def _learn(learner: Learner, x_NCHW: Pixels, y_N: Tensor, boundary_after: int | None) -> None:
    size = learner.batch_size
    for begin in range(0, len(y_N), size):
        if boundary_after is not None and begin - size < boundary_after <= begin:
            learner.boundary()
        learner.learn(torch.from_numpy(x_NCHW[begin : begin + size].copy()), y_N[begin : begin + size])


def _accuracy(learner: Learner, x_NCHW: Pixels, y_N: np.ndarray) -> float:
    predicted_N = learner.predict_proba(torch.from_numpy(x_NCHW.copy())).argmax(1).numpy()
    return float((predicted_N == y_N).mean())


if __name__ == "__main__":
    run(choose, "hyperparameters")
