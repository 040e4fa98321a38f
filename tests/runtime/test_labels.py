"""What labels are: numbers, names in a file, or names that are collected; and what does not fit together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lethe.errors import InvalidFile, InvalidSetting
from lethe.ingest.feed import Batch
from lethe.learners.base import LearnerContext
from lethe.learners.predictor import restricted
from lethe.learners.registry import LEARNERS
from lethe.privacy.controls import load_controls
from lethe.probeset import ProbeSet, save_probe
from lethe.runtime.factories import load_probes
from lethe.runtime.labels import MOST_NAMES, Labels, load_labels
from lethe.runtime.ranks.supported import check_ranks
from lethe.runtime.resume import fingerprint, run_id
from lethe.runtime.step import learn_batch
from lethe.settings import PrivacySettings, Settings
from tests.support.feeds import LAYOUT, ScriptedFeed, segment
from tests.support.runs import Remembering


def settings(**sections: dict[str, Any]) -> Settings:
    return Settings.read({"learner": {"name": "ridge", "device": "cpu"}, **sections})


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\nbird\n")
    return path


def test_without_names_labels_are_numbers() -> None:
    given = settings()
    assert load_labels(given) == (given, Labels())


def test_a_file_of_names_says_how_many_classes_there_are(names: Path) -> None:
    found, labels = load_labels(settings(labels={"names": names}))
    assert (found.sample.classes, labels) == (3, Labels(("cat", "dog", "bird")))


def test_names_are_collected_up_to_a_number_of_classes(names: Path) -> None:
    found, labels = load_labels(settings(labels={"max_classes": 20}))
    assert (found.sample.classes, labels) == (20, Labels((), collected=True))
    found, labels = load_labels(settings(labels={"max_classes": 20, "names": names}))
    assert (found.sample.classes, labels) == (20, Labels(("cat", "dog", "bird"), collected=True))


@pytest.mark.parametrize(
    ("lines", "sections", "message"),
    [
        (["cat"], {}, "has 1 names"),
        (["cat", "dog", "bird"], {"labels": {"max_classes": 2}}, "more names than labels.max_classes, 2"),
        (["cat", "dog"], {"sample": {"classes": 10}}, "sample.classes is 10, and labels.names"),
        ([f"class {number}" for number in range(MOST_NAMES + 1)], {}, f"{MOST_NAMES} are allowed"),
    ],
)
def test_a_number_of_classes_that_does_not_fit_is_refused_by_name(
    lines: list[str], sections: dict[str, dict[str, Any]], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(lines))
    labels = {"names": path, **sections.pop("labels", {})}
    with pytest.raises(InvalidSetting, match=message):
        load_labels(settings(labels=labels, **sections))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.txt"):
        load_labels(settings(labels={"names": tmp_path / "none.txt"}))


def test_a_run_is_another_with_other_names_and_the_same_without_any(names: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("dog\ncat\nbird\n")
    runs = [load_labels(settings(labels={"names": path}))[0] for path in (names, other)]
    assert run_id(runs[0]) != run_id(runs[1])
    assert fingerprint(runs[0])["labels.names"] != fingerprint(runs[1])["labels.names"]
    assert fingerprint(settings())["labels.names"] is None


def probe(folder: Path, *classes: str) -> Settings:
    x_NCHW = np.zeros((2, 1, 28, 28), np.uint8)
    save_probe(ProbeSet("a", x_NCHW, np.arange(2), "made up", "none needed", classes), folder, 0)
    return settings(evaluation={"probes": folder})


def test_probes_have_names_where_the_stream_has(tmp_path: Path) -> None:
    numbered = probe(tmp_path / "numbered")
    named = probe(tmp_path / "named", "cat", "fish")
    closed, open_ = Labels(("cat", "dog")), Labels(("cat",), collected=True)
    with pytest.raises(InvalidSetting, match="the labels of a are numbers, those of the stream are names"):
        load_probes(numbered.evaluation, numbered.sample, open_)
    with pytest.raises(InvalidSetting, match=r"a has class 'fish', which is not in labels.names"):
        load_probes(named.evaluation, named.sample, closed)
    assert load_probes(named.evaluation, named.sample, open_)[0].classes == ("cat", "fish")


def test_a_policy_that_keeps_no_header_text_does_not_collect_names(names: Path, tmp_path: Path) -> None:
    controls, state = load_controls(PrivacySettings(policy="clinic")), {"folder": tmp_path / "state"}
    with pytest.raises(InvalidSetting, match=r"labels.max_classes: .* policy clinic keeps no text"):
        controls.apply(settings(labels={"max_classes": 5}, checkpoint=state), LEARNERS["ridge"], [])
    controls.apply(settings(labels={"names": names}, checkpoint=state), LEARNERS["ridge"], [])


def test_ranks_take_numbers(names: Path) -> None:
    for labels in ({"names": names}, {"max_classes": 5}):
        with pytest.raises(InvalidSetting, match=r"labels.names, labels.max_classes"):
            check_ranks(settings(labels=labels))


@pytest.mark.parametrize("known", [0, 1, 4, 10])
def test_only_a_class_that_appeared_before_the_batch_is_predicted(known: int) -> None:
    learner = Remembering(LearnerContext(LAYOUT))
    (batch,) = (b for b in [ScriptedFeed(segment("a", 32), size=32).next(0)] if isinstance(b, Batch))
    y_B = batch.y_B.copy()
    all_BK = learner.predict_proba(torch.from_numpy(batch.x_BCHW.copy()))
    numbers, _, predicted = learn_batch(learner, batch, known=known)
    assert predicted is not None
    assert predicted.proba_BK.shape == (32, known)
    expected_B = all_BK[:, :known].argmax(1).numpy() if known else np.full(32, -1)
    assert np.array_equal(predicted.class_B.numpy(), expected_B)
    assert numbers.correct == (expected_B == y_B).sum()


def test_probabilities_of_the_known_classes_sum_to_one() -> None:
    p_BK = torch.tensor([[0.2, 0.2, 0.6], [0.0, 0.0, 1.0]])
    assert torch.allclose(restricted(p_BK, 2), torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    assert torch.allclose(restricted(p_BK, 3), p_BK)
    assert restricted(p_BK, 0).shape == (2, 0)
