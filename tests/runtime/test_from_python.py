"""lethe.run learns arrays, datasets and iterators as the service learns a topic."""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

import lethe
from lethe.errors import InvalidSetting, MissingExtra
from lethe.events import BatchLearned, Evaluated, Event
from lethe.learners.state import JSON
from lethe.stream.embedded_broker import EmbeddedBroker
from tests.support.python_runs import Arrays, as_iterator, as_tensors, assert_same_run, run_from_topic

MLP: dict[str, JSON] = {"backbone": "mlp", "lr": 0.01}


def rows(first: int, second: int, count: int, seed: int = 0) -> Arrays:
    """Return images of two classes, bright in row ``first`` or in row ``second``."""
    random = np.random.default_rng((seed, first, count))
    y = random.integers(2, size=count)
    x = random.integers(60, size=(count, 8, 8), dtype=np.uint8)
    x[np.arange(count), np.where(y == 0, first, second)] = 255
    return x, y


SEGMENTS = {"first": rows(1, 2, 640), "second": rows(2, 1, 640)}
PROBES = {"first": rows(1, 2, 100, seed=1), "second": rows(2, 1, 100, seed=1)}


class Pairs(Dataset[tuple[Any, int]]):
    """A dataset as torchvision's are: images and labels by index, and names of the classes."""

    classes = ("upper", "lower")

    def __init__(self, arrays: Arrays, convert: Any = Image.fromarray) -> None:
        self._arrays, self._convert = arrays, convert

    def __len__(self) -> int:
        return len(self._arrays[1])

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        x, y = self._arrays
        return self._convert(x[index]), int(y[index])


def floats(x_HW: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(x_HW)[None].to(torch.float32) / 255


def with_last_channel(arrays: Arrays) -> Any:
    return arrays[0][..., None], arrays[1]


def as_loader(arrays: Arrays) -> Any:
    return DataLoader(Pairs(arrays, floats), batch_size=37)


@pytest.mark.parametrize("convert", [as_tensors, with_last_channel, Pairs, as_loader, as_iterator])
def test_the_same_images_give_the_same_run_in_whatever_form(convert: Any) -> None:
    expected = lethe.run("finetune", SEGMENTS, PROBES, options=MLP)
    again = lethe.run(
        "finetune", {name: convert(a) for name, a in SEGMENTS.items()}, PROBES, options=MLP, classes=2
    )
    assert_same_run(again, expected)


def test_what_was_learned_first_is_forgotten_if_the_second_contradicts_it() -> None:
    run = lethe.run("finetune", SEGMENTS, PROBES, options=MLP)
    assert run.R.shape == (3, 2)
    np.testing.assert_array_equal(run.R[1:], [[1, 0], [0, 1]])
    assert (run.bwt, run.acc) == (-1, 0.5)
    assert run.scores["bwt"] == -1
    assert repr(run) == "<lethe.Run of finetune: 1280 samples, acc=0.500, bwt=-1.000>"


def test_a_topic_gives_the_same_numbers(embedded_broker: EmbeddedBroker, topic: str) -> None:
    with_channel = {name: (x[:, None], y) for name, (x, y) in SEGMENTS.items()}
    seen: list[Event] = []
    of_topic = run_from_topic(embedded_broker, topic, with_channel, PROBES, MLP, on_event=seen.append)
    np.testing.assert_array_equal(of_topic.R, lethe.run("finetune", SEGMENTS, PROBES, options=MLP).R)
    assert sum(isinstance(event, Evaluated) for event in seen) == len(of_topic.result.evaluations)


def test_it_is_evaluated_at_boundaries_and_in_between() -> None:
    run = lethe.run("finetune", SEGMENTS, PROBES, options=MLP, batch_size=50, every=200, subset=10)
    points = [(point.samples, point.full) for point in run.result.evaluations]
    assert points == [
        (0, True), (200, False), (400, False), (600, False), (640, True),
        (840, False), (1040, False), (1240, False), (1280, True),
    ]  # fmt: skip


def test_each_item_of_an_iterator_is_taken_once_and_when_its_batch_is_due() -> None:
    taken: list[int] = []

    def watched() -> Iterator[tuple[Any, Any]]:
        for number, item in enumerate(as_iterator(SEGMENTS["first"])):
            taken.append(number)
            yield item

    learned: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, BatchLearned):
            learned.append(len(taken))

    run = lethe.run("finetune", watched(), PROBES, options=MLP, classes=2, batch_size=100, on_event=note)
    assert taken == list(range(640))
    assert all(now - before <= 100 for before, now in pairwise(learned)), (
        "no more than one item is read ahead"
    )
    assert run.result.samples.learned == 640
    assert run.bwt is None, "a stream without segments"


def test_a_learner_is_continued() -> None:
    first = lethe.run("finetune", {"first": SEGMENTS["first"]}, PROBES, options=MLP)
    assert first.learner is not None
    second = lethe.run(first.learner, {"second": SEGMENTS["second"]}, PROBES)
    assert second.R[0].tolist() == [1, 0]
    assert second.learner is first.learner


def test_the_layout_is_that_of_the_images() -> None:
    random = np.random.default_rng(0)
    x_NHWC = random.integers(256, size=(40, 9, 12, 3), dtype=np.uint8)
    y_N = np.array(["cat", "dog", "bird", "dog"] * 10)
    run = lethe.run("ncm", {"pets": (x_NHWC, y_N)}, {"pets": (x_NHWC, y_N)})
    assert run.result.class_names == ["bird", "cat", "dog"]
    assert run.learner is not None
    assert run.learner.predict_proba(torch.from_numpy(x_NHWC).permute(0, 3, 1, 2)).shape == (40, 3)


def test_names_of_classes_come_from_the_data_set() -> None:
    run = lethe.run("ncm", {"first": Pairs(SEGMENTS["first"])}, PROBES)
    assert run.result.class_names == ["upper", "lower"]


GREY = np.zeros((4, 8, 8), np.uint8)
TWO = np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("segments", "more", "said"),
    [
        ({}, {}, "segments: there are none"),
        ({"a": []}, {}, "segment a: there are no samples"),
        ({"a": (GREY, TWO[:3])}, {}, "segment a: 4 samples but 3 labels"),
        ({"a": (GREY, np.array([0, 1, 0, 5]))}, {"classes": 3}, "sample 3: the label 5 is not from 0 to 2"),
        ({"a": (GREY, TWO - 1)}, {}, "sample 0: the label -1 is not from 0 to 1"),
        ({"a": (GREY, [*"xyxz"])}, {"classes": ["x", "y"]}, "'z' is not a class; the classes are x, y"),
        ({"a": iter([(GREY[0], 0)])}, {}, "those of segment a are not known before its iterator is read"),
        ({"a": (GREY.astype(np.int32), TWO)}, {}, "pixels are int32, expected uint8, or floats from 0 to 1"),
        ({"a": (GREY - 0.5, TWO)}, {}, "pixels are from -0.5 to -0.5, .* leave Normalize out"),
        ({"a": (np.zeros((4, 3, 5, 4), np.uint8), TWO)}, {}, "if several are possible, give layout"),
        ({"a": (GREY, TWO), "b": (GREY[:, 1:], TWO)}, {}, r"b, sample 0: .* shape \[7, 8\], .* 1×8×8"),
        ({"a": [(Image.new("P", (8, 8)), 0)]}, {}, "a Pillow image of mode P; convert it to L or RGB"),
        ({"a": [("cat.jpg", 0)]}, {}, "a sample is str, expected an array, a tensor or a Pillow image"),
        ({"a": [GREY[0]]}, {}, "segment a: an item is ndarray, expected"),
    ],
)  # fmt: skip
def test_data_that_does_not_fit_is_refused_by_name(segments: Any, more: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lethe.run("ncm", segments, **more)


def test_an_unknown_learner_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="'styx' does not exist"):
        lethe.run("styx", SEGMENTS)


def test_options_of_a_learner_that_exists_are_refused() -> None:
    learner = lethe.create("ncm", lethe.LearnerContext(lethe.Layout()))
    with pytest.raises(TypeError, match="options: the learner ncm is created already"):
        lethe.run(learner, SEGMENTS, options={"waves": 0})


def test_a_class_in_place_of_a_learner_is_refused() -> None:
    kind: Any = lethe.Learner
    with pytest.raises(TypeError, match=r"Learner is a class; give an instance, .*or the name"):
        lethe.run(kind, SEGMENTS)


@pytest.fixture(scope="module")
def run() -> lethe.Run:
    return lethe.run("finetune", SEGMENTS, PROBES, options=MLP, every=200, name="turned <b>over</b>")


def test_a_frame_has_a_row_for_each_evaluation(run: lethe.Run) -> None:
    frame = run.to_frame()
    assert frame["samples"].tolist() == [point.samples for point in run.result.evaluations]
    assert frame["accuracy.first"].iloc[-1] == 0
    assert frame["segment"].iloc[-1] == "second"
    assert frame["bwt"].iloc[-1] == -1


def test_without_pandas_the_extra_is_named(run: lethe.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        MissingExtra, match=r"Run\.to_frame needs the extra pandas: pip install 'lethe\[pandas\]'"
    ):
        run.to_frame()


def test_a_notebook_shows_the_matrix_in_any_theme(run: lethe.Run) -> None:
    shown = run._repr_html_()
    assert shown.count("<tr") == 1 + len(run.R)
    assert "BWT −100.0" in shown
    assert "rgba(0,103,177,0.40)" in shown
    assert "color:#" not in shown
    named = run.result.model_copy(update={"learner": "<script>"})
    assert "<script>" not in lethe.Run(named)._repr_html_()


def test_a_figure_has_the_colours_of_the_report(run: lethe.Run) -> None:
    light, dark = run.plot(), run.plot(dark=True)
    assert [trace.name for trace in light.data][:2] == ["first", "second"]
    assert (light.layout.paper_bgcolor, dark.layout.paper_bgcolor) == ("#ffffff", "#14171b")
    assert light.data[0].line.color == "#0067b1"
    assert len(light.layout.shapes) == 2, "the switch, and the boundary that was detected"
    for kind in ("forgetting", "levels", "changes", "prequential"):
        assert run.plot(kind).data


def test_what_was_not_measured_cannot_be_drawn() -> None:
    bare = lethe.run("ncm", SEGMENTS["first"])
    assert bare.R.shape == (0, 0)
    with pytest.raises(ValueError, match="nothing to draw: accuracy was not measured"):
        bare.plot()
    with pytest.raises(ValueError, match="the kinds of figures are accuracy"):
        bare.plot("pie")  # type: ignore[arg-type]
    assert "accuracy" in bare._repr_html_().lower()


def test_a_run_is_written_and_read_again(run: lethe.Run, tmp_path: Path) -> None:
    report = run.write(tmp_path)
    assert "turned &lt;b&gt;over" in report.read_text()
    again = lethe.Run.read(tmp_path / "run.json")
    np.testing.assert_array_equal(again.R, run.R)
    assert again.learner is None
