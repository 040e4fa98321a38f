"""The command ``lethe export``: writes the model of a run as a file that runs elsewhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Option

from lethe.cli.options import PluginLearner, StateFolder
from lethe.errors import InvalidFile
from lethe.files.terminal import markup

__all__ = ["export_model"]


class Form(StrEnum):
    """The formats of `lethe.learners.export`, which imports torch."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    TORCH = "torch"


def export_model(
    folder: StateFolder,
    to: Annotated[
        Form, Option(help="safetensors: the weights; onnx (an extra) and torch (.pt2): a program.")
    ],
    out: Annotated[Path | None, Option(metavar="FILE", help="Default: model with the suffix.")] = None,
    probes: Annotated[
        Path | None, Option(metavar="DIR", help="Probes that name the classes. Default: the stream's names.")
    ] = None,
    learner: PluginLearner = None,
) -> None:
    """Export the model in the newest checkpoint, to predict without Lethe.

    The file holds the names of the classes and the layout of the samples. It takes the uint8 pixels of
    images, or the float32 numbers of vectors.
    """
    from lethe.checkpointing.checkpoint import load_learner, read_checkpoint
    from lethe.checkpointing.state_folder import checkpoint_files
    from lethe.learners.export import SUFFIXES, About, export
    from lethe.privacy.stored_learner import context_of, kind_of, learner_of
    from lethe.probeset import class_names, load_folder

    files = checkpoint_files(folder)
    if not files:
        raise InvalidFile(f"{folder} holds no checkpoints")
    checkpoint = read_checkpoint(files[-1])
    model = learner_of(checkpoint, kind_of(checkpoint, files[-1], learner))
    load_learner(model, checkpoint)
    names = checkpoint.position.classes if probes is None else class_names(load_folder(probes))
    about = About.of(model, context_of(checkpoint), checkpoint.samples, names)
    path = out or Path("model").with_suffix(SUFFIXES[to])
    export(model, about, path, to)
    console = Console(soft_wrap=True)
    console.print(f"{markup(str(path))}: {model.name} of {about.samples:,} samples")
    shape = ", ".join(map(str, about.shape))
    values = str(about.dtype).removeprefix("torch.")
    console.print(f"{about.input}, {values} (N, {shape}) → probabilities, float32 (N, {len(about.classes)})")
    console.print(f"classes: {markup(', '.join(about.classes))}")
