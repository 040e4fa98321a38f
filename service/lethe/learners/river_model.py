"""The classifiers of the library river behind the `Learner` contract, as ``river:MODULE.CLASS``.

Shapes: B batch, C channels, H height, W width, K classes.
"""

import importlib
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final

import torch
from pydantic import create_model
from torch import Tensor

from lethe.errors import InvalidSetting, MissingExtra
from lethe.learners.base import Learned, Learner, LearnerContext, Retention
from lethe.learners.options import Options
from lethe.learners.state import State

if TYPE_CHECKING:
    from river.base import Classifier

__all__ = ["PREFIX", "RiverLearner", "river_learner"]

PREFIX: Final = "river:"
"""Beginning of the names of river's classifiers."""
_PLAIN: Final = bool | int | float | str | None
_BRIGHTEST: Final = 255


class RiverLearner(Learner):
    """A classifier of river, which learns one sample after the other.

    A sample is a dictionary of its pixels, from 0 to 1, by their place in [C, H, W] from 0 on. What it
    retains depends on the classifier, some of which store samples, so the most is declared.

    Its state is made of Python objects. It could be written with pickle only, which is refused here: a
    modified pickle runs code. So `resumable` is False, and a service runs it without checkpoints.
    """

    retains: ClassVar[Retention] = Retention.SAMPLES
    paper: ClassVar[str] = "Montiel et al. 2021, River: Machine Learning for Streaming Data in Python"
    resumable: ClassVar[bool] = False
    batch_size: ClassVar[int] = 64
    classifier: ClassVar[type[Any]]
    """The classifier's class."""

    def __init__(self, context: LearnerContext) -> None:
        arguments = self.Options.of(context.options).model_dump(exclude_unset=True)
        if "seed" in inspect.signature(self.classifier).parameters:
            arguments.setdefault("seed", context.seed)
        try:
            self._model: Classifier = self.classifier(**arguments)
        except (TypeError, ValueError) as error:
            raise InvalidSetting(f"learner.options: {self.name}: {error}") from error
        self._classes = context.layout.classes
        self._learned = 0

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Predict and learn each sample of the batch; it is predicted before any of them is learned."""
        samples = _samples(x_BCHW)
        predicted_B = self._probabilities(samples).argmax(1)
        for sample, label in zip(samples, y_B.tolist(), strict=True):
            self._model.learn_one(sample, label)
        self._learned += len(y_B)
        return Learned(predicted_B, None)

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return the classifier's probabilities; equal ones as long as it knows no class."""
        return self._probabilities(_samples(x_BCHW))

    def state(self) -> State:
        """Return an empty state: `resumable` is False."""
        return State({}, {})

    @property
    def kept(self) -> int:
        """Samples learned: how many of them the classifier stores is unknown."""
        return self._learned

    def load_state(self, _: State) -> None:
        """Raise InvalidSetting: there is no state to load."""
        raise InvalidSetting(f"learner {self.name}: its state cannot be stored, so there is none to load")

    def _probabilities(self, samples: list[dict[Any, Any]]) -> Tensor:
        p_BK = torch.zeros(len(samples), self._classes)
        for p_K, sample in zip(p_BK, samples, strict=True):
            for label, probability in self._model.predict_proba_one(sample).items():
                p_K[int(label)] = float(probability)
        p_BK[p_BK.sum(1) <= 0] = 1
        return p_BK / p_BK.sum(1, keepdim=True)


def river_learner(name: str) -> type[Learner]:
    """Return the learner ``river:MODULE.CLASS``; options are the class's own arguments.

    Raises MissingExtra without river, InvalidSetting for what is no multiclass classifier of river.
    """
    try:
        from river.base import Classifier
    except ImportError as error:
        raise MissingExtra(f"learner {name}", "river") from error
    module, _, attribute = name.removeprefix(PREFIX).rpartition(".")
    try:
        kind = getattr(importlib.import_module(f"river.{module}"), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(f"learner {name!r}: river has no {module}.{attribute}") from error
    if not (inspect.isclass(kind) and issubclass(kind, Classifier)):
        raise InvalidSetting(f"learner {name!r} is no classifier of river")
    about = {
        "name": name,
        "summary": (inspect.getdoc(kind) or name).split("\n", 1)[0].rstrip("."),
        "Options": _options(kind),
        "classifier": kind,
        "__doc__": RiverLearner.__doc__,
        "__module__": __name__,
    }
    return type(attribute, (RiverLearner,), about)


def _options(kind: type[Any]) -> type[Options]:
    """Return the arguments of ``kind`` that are plain values, as options."""
    fields: dict[str, Any] = {
        name: (_PLAIN, parameter.default)
        for name, parameter in inspect.signature(kind).parameters.items()
        if isinstance(parameter.default, _PLAIN)
    }
    return create_model(f"{kind.__name__}Options", __base__=Options, **fields)


def _samples(x_BCHW: Tensor) -> list[dict[Any, Any]]:
    return [dict(enumerate(pixels)) for pixels in (x_BCHW.flatten(1).to(torch.float32) / _BRIGHTEST).tolist()]
