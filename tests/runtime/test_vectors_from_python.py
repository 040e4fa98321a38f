"""lethe.run learns vectors, in arrays and in tables, as it learns images."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch.utils.data import DataLoader, TensorDataset

import lethe
from lethe.learners.state import JSON
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.wire import Layout
from tests.support.python_runs import Arrays, as_iterator, as_tensors, assert_same_run, run_from_topic

OPTIONS: dict[str, JSON] = {"lr": 0.01}
NAMES = ["pressure", "humidity", "wind"]


def readings(sign: int, count: int, seed: int = 0) -> Arrays:
    """Two classes by the sign of one number among others that are large."""
    random = np.random.default_rng((seed, sign + 1, count))
    x = random.normal([1013, 0, 5000], [10, 1, 800], (count, 3)).astype(np.float32)
    return x, (sign * x[:, 1] > 0).astype(np.int64)


SEGMENTS = {"first": readings(1, 640), "second": readings(-1, 640)}
PROBES = {"first": readings(1, 100, seed=1), "second": readings(-1, 100, seed=1)}


def as_frame(arrays: Arrays) -> Any:
    return pd.DataFrame(arrays[0], columns=NAMES), pd.Series(arrays[1], name="rain")


def as_doubles(arrays: Arrays) -> Any:
    return arrays[0].astype(np.float64), arrays[1]


def as_loader(arrays: Arrays) -> Any:
    return DataLoader(TensorDataset(*as_tensors(arrays)), batch_size=37)


@pytest.mark.parametrize("convert", [as_frame, as_tensors, as_doubles, as_loader, as_iterator])
def test_the_same_vectors_give_the_same_run_in_whatever_form(convert: Any) -> None:
    expected = lethe.run("finetune", SEGMENTS, PROBES, options=OPTIONS)
    segments = {name: convert(arrays) for name, arrays in SEGMENTS.items()}
    again = lethe.run("finetune", segments, PROBES, options=OPTIONS, classes=2)
    assert_same_run(again, expected)


@pytest.mark.parametrize(("learner", "options"), [("finetune", OPTIONS), ("ridge", {"waves": 50})])
def test_what_was_learned_first_is_forgotten_or_mixed_if_the_second_contradicts_it(
    learner: str, options: dict[str, JSON]
) -> None:
    run = lethe.run(learner, SEGMENTS, PROBES, options=options)
    assert run.R.shape == (3, 2)
    assert run.R[1, 0] > 0.9
    assert run.R[2, 0] < 0.7
    assert run.bwt is not None
    assert run.bwt < -0.2


def test_a_topic_gives_the_same_numbers(embedded_broker: EmbeddedBroker, topic: str) -> None:
    of_topic = run_from_topic(embedded_broker, topic, SEGMENTS, PROBES, OPTIONS)
    np.testing.assert_array_equal(of_topic.R, lethe.run("finetune", SEGMENTS, PROBES, options=OPTIONS).R)


def test_whole_numbers_and_named_classes_are_taken() -> None:
    x = np.arange(12).reshape(4, 3)
    run = lethe.run("ncm", (pd.DataFrame(x), pd.Series(["dry", "rain", "dry", "rain"])))
    assert run.result.class_names == ["dry", "rain"]
    assert run.result.samples.learned == 4


ROWS, TWO = np.zeros((4, 3)), np.array([0, 1, 0, 1])
EMPTY = np.where(ROWS == 0, np.nan, ROWS)
WORDS = pd.DataFrame({"city": [*"abcd"]})
IMAGES = np.zeros((4, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("segments", "more", "said"),
    [
        ({"a": (ROWS, TWO), "b": (ROWS[:, 1:], TWO)}, {}, r"b, sample 0: .* shape \[2\], .* vectors of 3"),
        ({"a": (EMPTY, TWO)}, {}, "sample 0: a vector has numbers that are missing"),
        ({"a": (ROWS + 1e39, TWO)}, {}, "sample 0: .* not finite in float32"),
        ({"a": (WORDS, TWO)}, {}, "sample 0: a vector is of object, expected numbers"),
        ({"a": (np.zeros((4, 0)), TWO)}, {}, r"a sample has shape \[0\], expected an image"),
        ({"a": (IMAGES, TWO)}, {"layout": Layout(features=64, classes=2)}, "are vectors of 64"),
        ({"a": (ROWS, TWO)}, {"layout": Layout(height=8, width=8)}, r"shape \[3\], the stream's are 1×8×8"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_is_refused_by_name(segments: Any, more: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lethe.run("ncm", segments, **more)
