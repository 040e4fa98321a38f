"""The labelled classes of torchvision.datasets, as a source."""

import contextlib
import inspect
import io
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import numpy as np
from PIL import Image
from pydantic import Field, JsonValue

from lethe.errors import DataUnavailable, InvalidScenario
from lethe.wire import Labels, Pixels
from lethe_producers.sources.base import Classes, Integers, Part, Rows, Source
from lethe_producers.sources.files import held_out
from lethe_producers.sources.pictures import upright_pixels

__all__ = ["TorchvisionDataset"]

TIMEOUT: Final = 10.0
"""Seconds that a mirror may be silent."""
Side = Annotated[int, Field(ge=1, le=4096)]


class TorchvisionDataset(Source):
    """A class of torchvision.datasets whose items are an image and a label, such as KMNIST, SVHN or CIFAR10.

    Its files are those under the folder of data sets, or torchvision downloads them there, with its own
    checksums. A class without a test split has a share of each class held out instead.
    """

    short: ClassVar[str] = "name"

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")
    """Name of the class."""
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    """Further arguments of the class, such as split: letters for EMNIST."""
    size: tuple[Side, Side] | None = None
    """Height and width to which images are scaled and cropped. Without it, all must have one size."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour. By default as the first image."""
    holdout: float = Field(default=0.2, gt=0, lt=1)
    """Share of each class that is held out if the class has no test split."""

    @property
    def title(self) -> str:
        """The class with its arguments."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"torchvision's {self.name}" + (f" ({given})" if given else "")

    @property
    def licence(self) -> str:
        """That the data set is public; torchvision states no licences."""
        return "public data set; see its publisher's terms"

    def rows(self, part: Part, root: Path) -> Rows:
        """Open a part. Raises DataUnavailable if its files are missing and cannot be downloaded."""
        dataset, split = self._open(part, root)
        try:
            empty = not len(dataset)
        except (TypeError, NotImplementedError) as error:
            raise InvalidScenario(f"{self.title} is not a class of images with one label") from error
        if empty:
            raise DataUnavailable(f"{self.title} has no rows in {root}")
        picture, _ = self._item(dataset, 0)
        channels = self.channels or (1 if picture.mode in {"1", "L", "I", "I;16"} else 3)
        height, width = self.size or (picture.height, picture.width)
        y_N = self._labels(dataset)
        names = tuple(map(_name, getattr(dataset, "classes", ())))
        count = max(int(y_N.max()) + 1, len(names))

        def read(rows: Integers) -> Pixels:
            return np.stack([self._pixels(dataset, int(row), (channels, height, width)) for row in rows])

        classes = Classes(count, names if len(names) == count else ())
        every = Rows(y_N, (channels, height, width), classes, read)
        if split:
            return every
        held = held_out(y_N, self.holdout)
        return every.chosen(np.flatnonzero(held if part == "test" else ~held))

    def _open(self, part: Part, root: Path) -> tuple[Any, bool]:
        """Return the data set, and whether it is the split ``part`` and not everything."""
        import torchvision.datasets  # takes seconds

        kind = getattr(torchvision.datasets, self.name, None)
        if not (inspect.isclass(kind) and self.name in torchvision.datasets.__all__):
            raise InvalidScenario(f"torchvision.datasets has no class {self.name}")
        accepted = _parameters(kind)
        if unknown := sorted(set(self.arguments) - accepted):
            raise InvalidScenario(f"torchvision's {self.name} does not take {', '.join(unknown)}")
        arguments: dict[str, Any] = dict(self.arguments)
        if "root" in accepted:
            arguments["root"] = str(root)
        if "train" in accepted:
            arguments["train"] = part == "train"
        elif "split" in accepted and "split" not in arguments:
            arguments["split"] = part
        else:
            return self._found_or_downloaded(kind, arguments, accepted, root), False
        return self._found_or_downloaded(kind, arguments, accepted, root), True

    def _found_or_downloaded(
        self, kind: Any, arguments: Mapping[str, Any], accepted: set[str], root: Path
    ) -> Any:
        root.mkdir(parents=True, exist_ok=True)
        here, there = ({"download": wanted} if "download" in accepted else {} for wanted in (False, True))
        with contextlib.suppress(RuntimeError, FileNotFoundError):  # torchvision's way to say: not there
            return self._made(kind, {**arguments, **here})
        try:
            with _quiet_download():
                return self._made(kind, {**arguments, **there})
        except (RuntimeError, OSError, EOFError) as error:
            said = " ".join(str(error).split())
            raise DataUnavailable(
                f"{self.title} is not in {root}, and torchvision does not download it: {said}; provide its"
                " files there as torchvision lays them out"
            ) from error

    def _made(self, kind: Any, arguments: Mapping[str, Any]) -> Any:
        if arguments.get("split") == "test":
            with contextlib.suppress(ValueError):  # some classes call it val
                return kind(**arguments)
            arguments = {**arguments, "split": "val"}
        try:
            return kind(**arguments)
        except (TypeError, ValueError) as error:
            raise InvalidScenario(f"{self.title}: {' '.join(str(error).split())}") from error

    def _labels(self, dataset: Any) -> Labels:
        """Return the labels from the attribute that holds them, else by reading every row."""
        for attribute in ("targets", "labels", "_labels"):
            held = getattr(dataset, attribute, None)
            if held is None or len(held) != len(dataset):
                continue
            labels = np.asarray(held)
            ends = (0, len(dataset) // 2, len(dataset) - 1)
            if labels.ndim == 1 and all(labels[row] == self._item(dataset, row)[1] for row in ends):
                return labels.astype(np.int64)
        return np.array([self._item(dataset, row)[1] for row in range(len(dataset))], np.int64)

    def _item(self, dataset: Any, row: int) -> tuple[Image.Image, int]:
        item = dataset[row]
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], Image.Image)):
            raise InvalidScenario(f"{self.title} is not a class of images with one label")
        try:
            label = int(item[1])
        except (TypeError, ValueError) as error:
            raise InvalidScenario(f"{self.title} is not a class of images with one label") from error
        if label < 0:
            raise InvalidScenario(f"{self.title} has rows without a label")
        return item[0], label

    def _pixels(self, dataset: Any, row: int, shape: tuple[int, int, int]) -> Pixels:
        pixels = upright_pixels(self._item(dataset, row)[0], shape[0], self.size)
        if pixels.shape != shape:
            raise DataUnavailable(
                f"{self.title}: row {row} has {pixels.shape[1]}×{pixels.shape[2]} pixels, the first"
                f" {shape[1]}×{shape[2]}: give one size, such as size: [64, 64]"
            )
        return pixels


def _parameters(kind: Any) -> set[str]:
    """Return the names of what a class takes; ``**kwargs`` goes to the class that it extends."""
    found: set[str] = set()
    for base in inspect.getmro(kind):
        if base is object or "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters
        found |= {name for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return found - {"self"}


def _name(given: object) -> str:
    """Return a class's name; some classes have several, such as ImageNet's."""
    return given if isinstance(given, str) else ", ".join(map(str, given)) if isinstance(given, tuple) else ""


@contextlib.contextmanager
def _quiet_download() -> Iterator[None]:
    """Give up on a silent mirror, and print no progress: stdout may be JSON."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)
