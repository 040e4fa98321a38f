"""Lethe's learners as classifiers of the library river; needs the extra ``river``."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from river.base import MiniBatchClassifier
from torch import Tensor

from lethe.learners.base import Learner, LearnerContext
from lethe.learners.registry import create
from lethe.learners.state import JSON
from lethe.wire import Layout

__all__ = ["Classifier"]

_BRIGHTEST: Final = 255


class Classifier(MiniBatchClassifier):
    """A learner of Lethe, for river's metrics, evaluators and pipelines.

    ``learner`` is the name of a learner, created with ``options`` and ``seed`` when the first sample fixes
    the features: they are those of the first sample, in sorted order. One that is missing later counts as 0,
    and one that appears later is ignored. A learner of Lethe takes pixels, so a feature is mapped from
    ``bounds`` to 0 … 255 and clipped. The default fits standardised features: put river's ``StandardScaler``
    before it. For pixels give ``bounds=(0, 255)`` and their ``shape``, channels, height and width. Without a
    shape, the features are one row of pixels, for a learner with the backbone ``mlp``, which is then the
    default.

    There may be up to ``max_classes`` classes, whose labels can be anything hashable; a class that has not
    been seen gets no probability. `learn_many` is faster than `learn_one`, above all with ``ridge``,
    which has to solve anew for predictions after each call.

    >>> from river import datasets, metrics, preprocessing
    >>> from lethe.compat.river import Classifier
    >>> model = preprocessing.StandardScaler() | Classifier("finetune", max_classes=2, options={"lr": 0.01})
    >>> accuracy = metrics.Accuracy()
    >>> for x, y in datasets.Phishing().take(500):
    ...     accuracy.update(y, model.predict_one(x))
    ...     model.learn_one(x, y)
    >>> accuracy.get() > 0.8
    True
    """

    def __init__(
        self,
        learner: str = "finetune",
        *,
        shape: tuple[int, int, int] | None = None,
        bounds: tuple[float, float] = (-3.0, 3.0),
        max_classes: int = 10,
        options: Mapping[str, JSON] | None = None,
        seed: int = 0,
    ) -> None:
        """Raise ValueError for bounds that are not in order."""
        if not bounds[0] < bounds[1]:
            raise ValueError(f"bounds {bounds}: the first has to be below the second")
        self.learner, self.shape, self.bounds = learner, shape, bounds
        self.max_classes, self.options, self.seed = max_classes, options, seed
        self._learner: Learner | None = None
        self._features: list[Hashable] = []
        self._classes: dict[Any, int] = {}

    @property
    def _multiclass(self) -> bool:
        return True

    def _unit_test_skips(self) -> set[str]:
        # a gradient step on a batch is not one on each of its samples
        return {"check_learn_many_matches_learn_one"}

    def learn_one(self, x: Mapping[Any, Any], y: Any) -> None:
        """Learn one sample. Raises ValueError for one class too many, InvalidSetting for a bad option."""
        self._learn([x], [y])

    def predict_proba_one(self, x: Mapping[Any, Any], **_: Any) -> dict[Any, float]:
        """Return the probability of each class seen so far."""
        return self._predict([x])[0] if self._classes else {}

    def learn_many(self, X: pd.DataFrame, y: pd.Series) -> None:
        """Learn a batch of samples, as `learn_one`."""
        if len(X):
            self._learn(_rows(X), y.tolist())

    def predict_proba_many(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the probability of each class seen so far, with a row for each sample."""
        if not self._classes:
            return pd.DataFrame(index=X.index)
        return pd.DataFrame(self._predict(_rows(X)), index=X.index, columns=list(self._classes))

    def _learn(self, rows: Sequence[Mapping[Any, Any]], labels: Iterable[Any]) -> None:
        places = [self._place(label) for label in labels]
        if self._learner is None:
            self._learner = self._built(rows[0])
        self._learner.learn(self._pixels(rows), torch.tensor(places))

    def _place(self, label: Any) -> int:
        if label not in self._classes:
            if len(self._classes) == self.max_classes:
                raise ValueError(f"class {label!r} is one more than max_classes={self.max_classes}")
            self._classes[label] = len(self._classes)
        return self._classes[label]

    def _built(self, first: Mapping[Any, Any]) -> Learner:
        self._features = sorted(first, key=lambda name: (isinstance(name, str), name))
        channels, height, width = self.shape or (1, 1, len(self._features))
        if channels * height * width != len(self._features):
            raise ValueError(f"shape {self.shape}: a sample has {len(self._features)} features")
        layout = Layout(channels=channels, height=height, width=width, classes=max(2, self.max_classes))
        options = dict(self.options or {})
        if self.shape is None:
            options.setdefault("backbone", "mlp")
        return create(self.learner, LearnerContext(layout, self.seed, options=options))

    def _pixels(self, rows: Sequence[Mapping[Any, Any]]) -> Tensor:
        values = np.array([[row.get(name, 0) for name in self._features] for row in rows], np.float64)
        low, high = self.bounds
        scaled = np.clip((values - low) / (high - low), 0, 1) * _BRIGHTEST
        shape = self.shape or (1, 1, len(self._features))
        return torch.from_numpy(np.rint(scaled).astype(np.uint8)).reshape(len(rows), *shape)

    def _predict(self, rows: Sequence[Mapping[Any, Any]]) -> list[dict[Any, float]]:
        if self._learner is None:
            return [{} for _ in rows]
        p_BK = self._learner.predict_proba(self._pixels(rows))[:, : len(self._classes)].double()
        p_BK /= p_BK.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        return [dict(zip(self._classes, p_K, strict=True)) for p_K in p_BK.tolist()]


def _rows(X: pd.DataFrame) -> list[dict[Hashable, Any]]:
    rows: list[dict[Hashable, Any]] = X.to_dict("records")
    return rows
