"""Writes a learner's predictions as a file that runs elsewhere: safetensors, ONNX or a torch program.

Shapes: N samples, C channels, H height, W width, F numbers of a vector, K classes.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lethe.errors import MissingExtra
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.modules import NetworkClassifier
from lethe.learners.state import JSON

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["FORMATS", "METADATA", "SUFFIXES", "About", "export"]

METADATA: Final = "lethe"
"""The key, in each format, of a JSON object that describes the model: `About`."""
SUFFIXES: Final = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt2"}
"""The suffix of a file of each format."""
_NETWORK: Final = "network."
_OPSET: Final = 20


@dataclass(frozen=True)
class About:
    """What a file says about its model, which returns probabilities [N, K].

    It takes images, uint8 [N, C, H, W], or vectors, float32 [N, F]; what the other has is None.
    """

    learner: str
    samples: int
    """Samples learned."""
    channels: int | None
    height: int | None
    width: int | None
    features: int | None
    """F."""
    classes: Sequence[str]
    """Names of the classes, by their place in the output; the number of one without a name."""
    seed: int = 0
    options: Mapping[str, JSON] = field(default_factory=dict)
    """The learner's seed and options, with which `lethe.create` builds the same module again."""
    input: str = "images"
    """The name of the model's input: images or vectors."""
    values: str = "uint8, 0 to 255; the model scales them itself"
    schema: str = "lethe-export/1"

    @classmethod
    def of(
        cls, learner: Learner, context: LearnerContext, samples: int, names: Sequence[str] = ()
    ) -> "About":
        """Return what is known of ``learner``, which was built from ``context``."""
        layout = context.layout
        image = layout.features is None
        return cls(
            learner=learner.name,
            samples=samples,
            channels=layout.channels if image else None,
            height=layout.height if image else None,
            width=layout.width if image else None,
            features=layout.features,
            input="images" if image else "vectors",
            values=cls.values if image else "float32; the model standardises them itself",
            classes=[*names, *map(str, range(len(names), layout.classes))],
            seed=context.seed,
            options=context.options,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """[C, H, W] of an image, [F] of a vector."""
        sides = (self.channels, self.height, self.width, self.features)
        return tuple(side for side in sides if side is not None)

    @property
    def dtype(self) -> torch.dtype:
        """The type of a sample's values."""
        return torch.uint8 if self.features is None else torch.float32

    @property
    def json(self) -> str:
        """As one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)


def export(learner: Learner, about: About, path: Path, form: str) -> None:
    """Write what ``learner`` predicts with to ``path`` as ``form``, one of `FORMATS`.

    The number of samples in a batch is free. Raises InvalidSetting for a learner that cannot be exported,
    MissingExtra for ``onnx`` without its packages.
    """
    module = learner.module().eval()
    example = torch.zeros(2, *about.shape, dtype=about.dtype)
    FORMATS[form](module, example, about, path)


def _write_safetensors(module: nn.Module, _: Tensor, about: About, path: Path) -> None:
    """Write the module's tensors: those of a network under the names of its own state dict.

    The scale of a network's vectors is ``inputs.location`` and ``inputs.unit``.
    """
    network = isinstance(module, NetworkClassifier)
    tensors = {
        name.removeprefix(_NETWORK) if network else name: tensor.detach().contiguous()
        for name, tensor in module.state_dict().items()
    }
    save_file(tensors, path, {METADATA: about.json})


def _write_torch(module: nn.Module, example: Tensor, about: About, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about its own format
        torch.export.save(_program(module, example), path, extra_files={METADATA: about.json})


def _write_onnx(module: nn.Module, example: Tensor, about: About, path: Path) -> None:
    try:
        import onnxscript  # noqa: F401 - torch needs it
    except ImportError as error:
        raise MissingExtra("export --to onnx", "onnx") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages about one another
        program: Any = torch.onnx.export(
            _program(module, example),
            input_names=[about.input],
            output_names=["probabilities"],
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props[METADATA] = about.json
    program.save(path)


def _program(module: nn.Module, example: Tensor) -> "ExportedProgram":
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(module, (example,), dynamic_shapes=({0: batch},), strict=False)


FORMATS: Final[dict[str, Callable[[nn.Module, Tensor, About, Path], Any]]] = {
    "safetensors": _write_safetensors,
    "onnx": _write_onnx,
    "torch": _write_torch,
}
"""The formats, by name, with the function that writes each."""
