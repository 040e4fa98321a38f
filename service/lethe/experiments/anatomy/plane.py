"""The plane through three points of weight space, and the losses on a grid of it.

A plane through points of the path needs no filter-normalised directions (Li et al. 2018, Visualizing the Loss
Landscape of Neural Nets): both of its axes are differences of weights that training reached.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from lethe.experiments.anatomy.network import Images, Network

__all__ = ["Plane", "PrincipalPlane", "Surface", "best_share", "grid", "principal_plane", "surfaces"]

GRAM: Final = 1 << 16
"""Weights of which products are added up at a time, in double precision: it bounds the memory."""
MARGIN: Final = 0.3
"""Room around the path, as a share of its extent."""


@dataclass(frozen=True, slots=True)
class Plane:
    """The plane through three points: Mirzadeh et al. 2021, Linear Mode Connectivity in Multitask and
    Continual Learning.

    ``origin_V`` is the first point, ``axes_2V`` are orthonormal; the second point lies on the first axis.
    """

    origin_V: Tensor
    axes_2V: Tensor

    @classmethod
    def through(cls, first_V: Tensor, second_V: Tensor, third_V: Tensor) -> "Plane":
        """Return the plane; raises ValueError for three points on one line."""
        along = (second_V - first_V).double()
        aside = (third_V - first_V).double()
        length = along.norm()
        along = along / length
        aside = aside - along * (along @ aside)
        if not length > 0 or aside.norm() <= 1e-6 * length:
            raise ValueError("the three points lie on one line and span no plane")
        return cls(first_V, torch.stack([along, aside / aside.norm()]))

    def coordinates(self, points_PV: Tensor) -> Tensor:
        """Return the coordinates of points projected onto the plane, float64 [P, 2]."""
        return torch.stack([(point_V - self.origin_V).double() @ self.axes_2V.T for point_V in points_PV])

    def at(self, x: float, y: float) -> Tensor:
        """Return the weights at coordinates of the plane, float32 [V]."""
        return (self.origin_V.double() + x * self.axes_2V[0] + y * self.axes_2V[1]).float()

    def share(self, points_PV: Tensor) -> float:
        """Return which share of the variance of points the plane shows."""
        centred_PV = points_PV - points_PV.mean(0)
        shown = sum(float((point_V.double() @ self.axes_2V.T).square().sum()) for point_V in centred_PV)
        return shown / sum(float(point_V.double().square().sum()) for point_V in centred_PV)


@dataclass(frozen=True, slots=True)
class PrincipalPlane:
    """The plane of the first two principal components of points, which shows most of their variance."""

    coordinates: list[tuple[float, float]]
    share: float
    """Share of the variance of the points that it shows; 1 if they do not differ."""


def principal_plane(points_PV: Tensor) -> PrincipalPlane:
    """Return the points in their principal plane, from their Gram matrix: P is much smaller than V."""
    centred_PV = points_PV - points_PV.mean(0)
    gram_PP = torch.zeros(len(points_PV), len(points_PV), dtype=torch.float64)
    for part in torch.split(centred_PV, GRAM, dim=1):
        gram_PP += part.double() @ part.double().T
    values_P, vectors_PP = torch.linalg.eigh(gram_PP)
    values_P = values_P.clamp_min(0)
    coordinates_P2 = (vectors_PP * values_P.sqrt())[:, [-1, -2]]
    total = float(values_P.sum())
    share = float(values_P[-2:].sum()) / total if total else 1.0
    return PrincipalPlane([(float(x), float(y)) for x, y in coordinates_P2], share)


def best_share(points_PV: Tensor) -> float:
    """Return the largest share that any plane shows."""
    return principal_plane(points_PV).share


@dataclass(frozen=True, slots=True)
class Surface:
    """Loss and accuracy on each probe over a grid: row i of a matrix is at ``ys[i]``."""

    xs: list[float]
    ys: list[float]
    loss: dict[str, list[list[float]]]
    accuracy: dict[str, list[list[float]]]


def grid(coordinates_P2: Tensor, steps: int) -> tuple[list[float], list[float]]:
    """Return the coordinates of a grid with ``steps`` points per axis, around the points of a path."""
    axes = []
    for values in coordinates_P2.T:
        low, high = float(values.min()), float(values.max())
        room = MARGIN * (high - low)
        axes.append(torch.linspace(low - room, high + room, steps).tolist())
    return axes[0], axes[1]


def surfaces(
    network: Network,
    plane: Plane,
    axes: tuple[list[float], list[float]],
    probes: Sequence[Images],
    tick: Callable[[], None],
) -> Surface:
    """Measure the network over a grid of the plane; ``tick`` is called after each row."""
    xs, ys = axes
    loss: dict[str, list[list[float]]] = {probe.name: [] for probe in probes}
    accuracy: dict[str, list[list[float]]] = {probe.name: [] for probe in probes}
    for y in ys:
        row = [plane.at(x, y) for x in xs]
        for probe in probes:
            measured = [network.measure(vector_V, probe) for vector_V in row]
            loss[probe.name].append([point.loss for point in measured])
            accuracy[probe.name].append([point.accuracy for point in measured])
        tick()
    return Surface(xs, ys, loss, accuracy)
