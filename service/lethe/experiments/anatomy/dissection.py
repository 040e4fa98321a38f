"""Everything that is measured of one learner with one seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from lethe.experiments.anatomy.forgetting_events import ForgettingEvents, confusion, count_events
from lethe.experiments.anatomy.line import Curvature, Line, curvature, measure_line
from lethe.experiments.anatomy.network import Images, Network, model_weights
from lethe.experiments.anatomy.plane import Plane, Surface, best_share, grid, surfaces
from lethe.experiments.anatomy.readout import Diagnosis, diagnose
from lethe.experiments.anatomy.similarity import MINIBATCH, linear_cka
from lethe.experiments.anatomy.solution import (
    Solution,
    aligned,
    flat_weights,
    measure_solution,
    solved_weights,
)
from lethe.experiments.anatomy.study import Study
from lethe.experiments.anatomy.training import Path, Point, train
from lethe.learners.base import Learner
from lethe.probeset import ProbeSet

__all__ = [
    "SURFACE_COST",
    "Dissection",
    "Forgotten",
    "Layer",
    "Portrait",
    "Stitching",
    "Theory",
    "Weights",
    "dissect",
    "layers_between",
]

LINE_STEPS: Final = 21
LINE_IMAGES: Final = 250
SURFACE_IMAGES: Final = 200
SURFACE_COST: Final = 100
"""Samples that are learned in about the time that a point of both surfaces takes."""
READOUT_IMAGES: Final = 5000
"""Images of the old probe for new readouts: one half to fit them, the other to measure them."""
CURVATURE_IMAGES: Final = 250
CURVATURE_POINTS: Final = 6
"""Points after the switch at which the predicted loss is compared with the measured one."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What happened to one layer between the switch and the end."""

    name: str
    distance: float
    """‖θ_B − θ_A‖ / ‖θ_A‖ over the layer's weights."""
    cka: float
    """Linear CKA of its activations on the old probe before and after."""


@dataclass(frozen=True, slots=True)
class Stitching:
    """Accuracy on the old probe of networks that are old on one side of a cut and new on the other.

    Entry k cuts below layer k: at 0 the whole network is from above the cut, at the last from below.
    """

    old_above_new: list[float]
    """The first k layers are new, the others old: can the old layers still read the new features?"""
    new_above_old: list[float]
    """The first k layers are old, the others new."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The old loss at a point after the switch, by the quadratic approximation at θ_A and as measured."""

    samples: int
    """Samples since the switch."""
    predicted: float
    measured: float


@dataclass(frozen=True, slots=True)
class Theory:
    """The quadratic approximation of the old loss at θ_A, and how well it predicts."""

    along: Curvature
    """In the direction of θ_B."""
    predictions: list[Prediction]


@dataclass(frozen=True, slots=True)
class Portrait:
    """The surfaces of both probes over a plane, with the path on it."""

    surface: Surface
    path: list[tuple[float, float]]
    path_loss: dict[str, list[float]]
    """Loss on each probe at the points of the path themselves, which lie beside the plane."""
    share: float
    """Share of the variance of the path's points that this plane shows."""
    best_share: float
    """The largest share that any plane shows."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What is measured in weight space; of learners with a network."""

    layers: list[Layer]
    stitching: Stitching
    diagnosis: Diagnosis
    old_line: Line
    new_line: Line
    theory: Theory | None
    """None for further seeds."""
    portrait: Portrait | None
    """None for further seeds, or where the points of the plane lie on one line."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Which samples of the old probe were forgotten."""

    events: ForgettingEvents
    before: list[list[int]]
    """Images by class (row) and predicted class (column) at the switch."""
    after: list[list[int]]
    """The same at the end."""


@dataclass(frozen=True, slots=True)
class Dissection:
    """One learner with one seed."""

    learner: str
    retains: str
    seed: int
    samples: list[int]
    """Samples learned at each recorded point."""
    switch: int
    """Index of the point at the switch."""
    detected: list[int]
    accuracy: list[float]
    """Accuracy on the old probe at each point."""
    travelled: list[float] | None
    """Distance of each point from the first one, in weight space."""
    forgotten: Forgotten
    weights: Weights | None
    """None for a learner without a network."""
    solution: Solution | None
    """None for a learner that does not solve for its weights."""


def dissect(
    learner: Learner,
    study: Study,
    seed: int,
    probes: tuple[ProbeSet, ProbeSet],
    network: Network | None,
    classes: int,
    tick: Callable[[int], None] = lambda _: None,
) -> Dissection:
    """Train ``learner`` across the switch and measure what it forgot of the first of both ``probes``.

    ``network`` is that of a gradient learner. ``tick`` is called with the samples of each batch learned, and
    with the samples that a batch would have had in the time of another piece of work.
    """
    old = Images.of(probes[0], study.images)
    shown = torch.tensor(probes[0].x_NCHW[: study.images])

    def see(learner: Learner, samples: int) -> Point:
        if network is None:
            predicted_N = learner.predict_proba(shown).argmax(1)
            return Point(samples, None, predicted_N, solved_weights(learner))
        vector_V = network.flatten(model_weights(learner.state()))
        return Point(samples, vector_V, network.predict(vector_V, old))

    path = train(learner, study, seed, see, tick)
    predicted_PN = path.predictions()
    kept_PN = predicted_PN[path.switch :]
    solved = [point.solved for point in path.points]
    return Dissection(
        learner=learner.name,
        retains=learner.retains.value,
        seed=seed,
        samples=[point.samples for point in path.points],
        switch=path.switch,
        detected=path.detected,
        accuracy=(predicted_PN == old.y_N).double().mean(1).tolist(),
        travelled=_travelled(
            path.weights() if network else flat_weights(aligned(solved)) if all(solved) else None
        ),
        forgotten=Forgotten(
            count_events(kept_PN, old.y_N),
            confusion(kept_PN[0], old.y_N, classes),
            confusion(kept_PN[-1], old.y_N, classes),
        ),
        weights=None if network is None else _weights(network, path, study, seed, probes, classes, tick),
        solution=measure_solution(learner, solved, path.switch, probes, LINE_IMAGES, LINE_STEPS),
    )


def _travelled(points_PV: Tensor | None) -> list[float] | None:
    return None if points_PV is None else [float((at_V - points_PV[0]).norm()) for at_V in points_PV]


def _weights(
    network: Network,
    path: Path,
    study: Study,
    seed: int,
    probes: tuple[ProbeSet, ProbeSet],
    classes: int,
    tick: Callable[[int], None],
) -> Weights:
    points_PV = path.weights()
    start_V, before_V, after_V = points_PV[0], points_PV[path.switch], points_PV[-1]
    old, _ = probes
    whole = Images.of(old, READOUT_IMAGES)
    half = len(whole.y_N) // 2
    halves = (
        Images(old.name, whole.x_NCHW[:half], whole.y_N[:half]),
        Images(old.name, whole.x_NCHW[half:], whole.y_N[half:]),
    )
    on_line = [Images.of(probe, LINE_IMAGES) for probe in probes]
    lines = [measure_line(network, before_V, after_V, images, LINE_STEPS) for images in on_line]
    return Weights(
        layers=layers_between(network, before_V, after_V, Images.of(old, study.images)),
        stitching=_stitching(network, before_V, after_V, on_line[0]),
        diagnosis=diagnose(network, before_V, after_V, start_V, halves, classes),
        old_line=lines[0],
        new_line=lines[1],
        theory=None if seed else _theory(network, path, Images.of(old, CURVATURE_IMAGES)),
        portrait=None if seed else _portrait(network, path, study.grid, probes, tick),
    )


def layers_between(network: Network, before_V: Tensor, after_V: Tensor, images: Images) -> list[Layer]:
    """Return how far each layer moved, and how similar its activations are before and after."""
    layers = []
    for name in network.layers:
        was_V, is_V = network.of_layer(before_V, name), network.of_layer(after_V, name)
        pairs = (
            (network.activations(before_V, name, x_BCHW), network.activations(after_V, name, x_BCHW))
            for x_BCHW, _ in images.chunks(MINIBATCH)
            if len(x_BCHW) == MINIBATCH or len(images.y_N) < MINIBATCH
        )
        distance = float((is_V - was_V).norm() / was_V.norm())
        layers.append(Layer(network.title(name), distance, linear_cka(pairs)))
    return layers


def _stitching(network: Network, before_V: Tensor, after_V: Tensor, images: Images) -> Stitching:
    cuts = range(len(network.layers) + 1)
    old_above = [network.stitched(after_V, before_V, cut) for cut in cuts]
    new_above = [network.stitched(before_V, after_V, cut) for cut in cuts]
    return Stitching(
        [network.measure(vector_V, images).accuracy for vector_V in old_above],
        [network.measure(vector_V, images).accuracy for vector_V in new_above],
    )


def _theory(network: Network, path: Path, images: Images) -> Theory:
    """Compare the quadratic approximation at θ_A with the loss at later points, the last one among them."""
    points_PV = path.weights()
    before_V = points_PV[path.switch]
    later = range(path.switch + 1, len(points_PV))
    chosen = sorted({*later[: CURVATURE_POINTS - 1], later[-1]})
    bent = curvature(network, before_V, [points_PV[place] - before_V for place in chosen], images)
    since = path.points[path.switch].samples
    predictions = [
        Prediction(
            path.points[place].samples - since,
            polynomial.at(1),
            network.measure(points_PV[place], images).loss,
        )
        for place, polynomial in zip(chosen, bent, strict=True)
    ]
    return Theory(bent[-1], predictions)


def _portrait(
    network: Network, path: Path, steps: int, probes: Sequence[ProbeSet], tick: Callable[[int], None]
) -> Portrait | None:
    points_PV = path.weights()
    try:
        plane = Plane.through(points_PV[path.switch], points_PV[-1], points_PV[0])
    except ValueError:
        return None
    coordinates_P2 = plane.coordinates(points_PV)
    images = [Images.of(probe, SURFACE_IMAGES) for probe in probes]
    axes = grid(coordinates_P2, steps)
    surface = surfaces(network, plane, axes, images, lambda: tick(SURFACE_COST * steps))
    return Portrait(
        surface,
        [(float(x), float(y)) for x, y in coordinates_P2],
        {probe.name: [network.measure(at_V, probe).loss for at_V in points_PV] for probe in images},
        plane.share(points_PV),
        best_share(points_PV),
    )
