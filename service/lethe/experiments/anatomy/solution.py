"""Path and barrier of learners that solve for their weights, on fixed features: ridge, slda and experts.

Shapes: P points, V weights, D features, K classes, R regimes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from lethe.experiments.anatomy.line import Line
from lethe.experiments.anatomy.plane import principal_plane
from lethe.learners.analytic.experts import NEVER
from lethe.learners.base import Learner
from lethe.learners.fixed_features import FixedFeatures
from lethe.probeset import ProbeSet

__all__ = [
    "Solution",
    "aligned",
    "flat_weights",
    "measure_solution",
    "solution_line",
    "solved_weights",
]

GATE: Final = "gate"
"""Name of the weights of the gate between experts, of shape [D, R]."""

Solved = Mapping[str, Tensor]
"""Weights by name."""


@dataclass(frozen=True, slots=True)
class Solution:
    """How the weights W that a learner solves for moved, and the loss between two of its solutions."""

    path: list[tuple[float, float]]
    """Each point in the plane of the first two principal components of all."""
    share: float
    """Share of the variance of the points that this plane shows."""
    old_line: Line
    """From A to B, on the old probe."""
    new_line: Line


def solved_weights(learner: Learner) -> Solved:
    """Return copies of the weights that ``learner`` last solved for; none if it solves for nothing."""
    if not isinstance(learner, FixedFeatures):
        return {}
    solved = learner.state().solved
    return {name: tensor.clone() for name, tensor in solved.items() if tensor.is_floating_point()}


def aligned(points: Sequence[Solved]) -> list[dict[str, Tensor]]:
    """Return points with the same names and shapes as the last one.

    A regime that does not exist yet has the weights 0, and is never chosen by the gate.
    """
    return [{name: _as(point.get(name), name, last) for name, last in points[-1].items()} for point in points]


def _as(tensor: Tensor | None, name: str, last: Tensor) -> Tensor:
    if tensor is None:
        return torch.zeros_like(last)
    if tensor.shape == last.shape:
        return tensor
    missing = torch.zeros(len(last), last.shape[1] - tensor.shape[1])
    if name == GATE:
        missing[-1] = NEVER
    return torch.cat([tensor, missing], 1)


def flat_weights(points: Sequence[Solved]) -> Tensor:
    """Return aligned points as vectors, float32 [P, V], without the gate, which jumps with a new regime."""
    return torch.stack(
        [torch.cat([point[name].reshape(-1) for name in point if name != GATE]) for point in points]
    )


def solution_line(
    learner: Learner, before: Solved, after: Solved, probe: ProbeSet, images: int, steps: int
) -> Line:
    """Measure ``steps`` points of the straight line between two solutions, both ends among them.

    The loss is the mean −log of the probability that ``learner`` gives to the right class, in nats. It is
    left as it was. Raises TypeError for a learner whose features can change.
    """
    if not isinstance(learner, FixedFeatures):
        raise TypeError(f"the features of {learner.name} are not fixed")
    features_ND = learner.features(torch.tensor(probe.x_NCHW[:images]))
    y_N = torch.tensor(probe.y_N[:images])
    state = learner.state()
    alphas = [place / (steps - 1) for place in range(steps)]
    loss, accuracy = [], []
    for alpha in alphas:
        mixed = {name: torch.lerp(before[name], after[name], alpha) for name in after}
        learner.load_state(replace(state, solved={**state.solved, **mixed}))
        p_NK = learner.predict_features(features_ND)
        tiny = torch.finfo(p_NK.dtype).tiny
        loss.append(float(nn.functional.nll_loss(p_NK.clamp_min(tiny).log().double(), y_N)))
        accuracy.append(float((p_NK.argmax(1) == y_N).double().mean()))
    learner.load_state(state)
    return Line(alphas, loss, accuracy)


def measure_solution(
    learner: Learner,
    points: Sequence[Solved],
    switch: int,
    probes: tuple[ProbeSet, ProbeSet],
    images: int,
    steps: int,
) -> Solution | None:
    """Measure a path of solutions that ends with that of ``learner``; None if it solves for nothing."""
    if not all(points):
        return None
    same = aligned(points)
    plane = principal_plane(flat_weights(same))
    lines = [solution_line(learner, same[switch], same[-1], probe, images, steps) for probe in probes]
    return Solution(plane.coordinates, plane.share, *lines)
