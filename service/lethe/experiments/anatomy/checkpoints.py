"""The path of a service's weights, from its checkpoints alone: no sample and no probe is needed.

Shapes: P checkpoints, V weights.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from lethe.checkpointing.checkpoint import Checkpoint, read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.errors import InvalidFile
from lethe.experiments.anatomy import figures
from lethe.experiments.anatomy.network import model_weights
from lethe.experiments.anatomy.page import Panel, Section, Table, write_sections
from lethe.experiments.anatomy.plane import principal_plane
from lethe.experiments.anatomy.solution import aligned
from lethe.learners.state import State
from lethe.report.figures import colour, legend
from lethe.report.formatting import UNDEFINED, number, percent

__all__ = ["WeightPath", "read_path", "write_path_page"]

SCHEMA: Final = "lethe-weight-path/1"
SOLUTION: Final = "W"
"""Name of the weights that a learner without a network solves for; `experts` has them for each regime."""


@dataclass(frozen=True, slots=True)
class WeightPath:
    """How the weights moved from checkpoint to checkpoint; distances are Euclidean."""

    learner: str
    samples: list[int]
    """Samples learned at each checkpoint."""
    from_first: list[float]
    steps: list[float]
    """Distance from the checkpoint before; one entry fewer than `samples`."""
    turns: list[float | None]
    """Cosine between successive steps; None where one has no length. Two entries fewer than `samples`."""
    layers: dict[str, list[float]]
    """Of each layer, by its name and shape, the distance from the first checkpoint relative to its weights
    there; if they are 0, relative to the first weights that are not."""
    plane: list[tuple[float, float]]
    """Coordinates in the plane of the first two principal components."""
    share: float
    """Share of the variance of the points that this plane shows."""

    def to_json(self) -> dict[str, object]:
        """Return everything as plain JSON."""
        return {"schema": SCHEMA, **{name: getattr(self, name) for name in self.__slots__}}


def read_path(folder: Path) -> WeightPath:
    """Read the weights of every checkpoint in a state folder, oldest first.

    A checkpoint that a running service deletes meanwhile is left out. Raises InvalidFile for a folder with
    fewer than two readable checkpoints, and for a learner without weights.
    """
    read: dict[int, tuple[str, Mapping[str, Tensor]]] = {}
    for path in checkpoint_files(folder):
        try:
            checkpoint = read_checkpoint(path)
        except InvalidFile:
            if path.exists():
                raise
            continue
        read[checkpoint.samples] = (str(checkpoint.fingerprint["learner.name"]), _weights(path, checkpoint))
    if len(read) < 2:
        raise InvalidFile(
            f"{folder} holds {len(read)} checkpoints, and a path needs 2: run the service with a larger "
            "--checkpoint-keep"
        )
    samples = sorted(read)
    learner, _ = read[samples[0]]
    weights = aligned([read[count][1] for count in samples])
    return _path(learner, samples, weights)


def _weights(path: Path, checkpoint: Checkpoint) -> Mapping[str, Tensor]:
    state: State = checkpoint.learner
    if found := {name: t for name, t in model_weights(state).items() if t.is_floating_point()}:
        return found
    named = {**state.tensors, **state.solved}  # the newer ones, if both are there
    solution = {_regime(name): t for name, t in named.items() if name.rpartition(".")[2] == SOLUTION}
    if not solution:
        raise InvalidFile(
            f"{path} is of the learner {checkpoint.fingerprint['learner.name']}, which has neither a network "
            "nor a matrix of weights"
        )
    return solution


def _regime(name: str) -> str:
    return name if name == SOLUTION else f"regime {name}"


def _path(learner: str, samples: list[int], weights: Sequence[Mapping[str, Tensor]]) -> WeightPath:
    points_PV = torch.stack([_flat(named.values()) for named in weights])
    steps_PV = points_PV.diff(dim=0)
    steps = steps_PV.norm(dim=1)
    products = (steps_PV[1:] * steps_PV[:-1]).sum(1)
    turns = [
        float(product / length) if length > 0 else None
        for product, length in zip(products, steps[1:] * steps[:-1], strict=True)
    ]
    plane = principal_plane(points_PV)
    return WeightPath(
        learner=learner,
        samples=samples,
        from_first=(points_PV - points_PV[0]).norm(dim=1).tolist(),
        steps=steps.tolist(),
        turns=turns,
        layers={
            f"{layer} {_shape(layer, weights[0])}": _relative(layer, weights)
            for layer in dict.fromkeys(map(_layer_of, weights[0]))
        },
        plane=plane.coordinates,
        share=plane.share,
    )


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.double().reshape(-1) for tensor in tensors])


def _layer_of(weight: str) -> str:
    return weight.rpartition(".")[0] or weight


def _shape(layer: str, weights: Mapping[str, Tensor]) -> str:
    """Return the shape of a layer's largest tensor."""
    largest = max((t for name, t in weights.items() if _layer_of(name) == layer), key=Tensor.numel)
    return "×".join(map(str, largest.shape))


def _relative(layer: str, weights: Sequence[Mapping[str, Tensor]]) -> list[float]:
    names = [name for name in weights[0] if _layer_of(name) == layer]
    points = [_flat(named[name] for name in names) for named in weights]
    size = next((norm for point in points if (norm := float(point.norm()))), 1.0)
    return [float((point - points[0]).norm()) / size for point in points]


def write_path_page(path: WeightPath, file: Path) -> None:
    """Write the page of a path."""
    layers = list(path.layers)
    drawn = {layer: (colour(layers, layer), [path.layers[layer]]) for layer in layers}
    distance = {"path": ("--p0", [path.from_first])}
    from_zero = {"rangemode": "tozero"}
    sections = [
        Section(
            "The path",
            "Each point is a checkpoint, in the plane of the path's first two principal components (Li et "
            f"al. 2018). The plane shows {percent(path.share)} of the variance of the points.",
            [
                Panel("weights", figures.path_only(path.plane, path.samples)),
                Panel(
                    "distance from the first checkpoint",
                    figures.curves(distance, path.samples, "%{y:.3f}", from_zero, "samples learned"),
                ),
            ],
            width=26,
        ),
        Section(
            "Layer by layer",
            "Distance of each layer from the first checkpoint, relative to its weights there.",
            [Panel("layers", figures.curves(drawn, path.samples, "%{y:.3f}", from_zero, "samples learned"))],
            legend=legend(layers),
            width=40,
        ),
        Section(
            "Checkpoint by checkpoint",
            "The step from the checkpoint before, and its cosine with the step before that: near 1 the "
            "weights keep their direction, below 0 they turn back.",
            table=Table(["samples learned", "from the first", "step", "cosine"], _rows(path)),
        ),
    ]
    length, end = sum(path.steps), path.from_first[-1]
    first, last = (number(path.samples[place]) for place in (0, -1))
    write_sections(
        file,
        title=f"the path of {path.learner}",
        kicker="The path of the weights",
        headlines=[
            f"{path.learner} travelled {length:.2f} in weight space and ended {end:.2f} from where it began"
        ],
        lead=f"{len(path.samples)} checkpoints, from {first} to {last} samples learned. "
        "They hold weights and no samples, so this says how far they moved and not what was lost.",
        colours=(),
        sections=sections,
    )


def _rows(path: WeightPath) -> list[list[str]]:
    steps = [None, *path.steps]
    turns = [None, None, *path.turns]
    return [
        [
            number(count),
            f"{distance:.3f}",
            UNDEFINED if step is None else f"{step:.3f}",
            UNDEFINED if turn is None else f"{turn:.3f}",
        ]
        for count, distance, step, turn in zip(path.samples, path.from_first, steps, turns, strict=False)
    ]
