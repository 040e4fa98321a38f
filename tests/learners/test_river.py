"""River's classifiers run in Lethe, and Lethe's learners run in river."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from river import checks, datasets, evaluate, metrics, preprocessing
from river.tree import HoeffdingAdaptiveTreeClassifier

import lethe
from lethe.compat.river import Classifier
from lethe.errors import InvalidSetting, MissingExtra
from lethe.learners.base import LearnerContext
from lethe.learners.checks.contract import checks_for
from lethe.learners.checks.helpers import batch
from lethe.learners.registry import create, find
from lethe.runtime.run import load_inputs
from lethe.settings import Settings
from lethe.wire import Layout

TREE = "river:tree.HoeffdingAdaptiveTreeClassifier"
BAYES = "river:naive_bayes.GaussianNB"


@pytest.mark.long
@pytest.mark.parametrize("check", list(checks_for(find(BAYES))), ids=lambda check: check.__name__)
def test_a_classifier_of_river_keeps_the_contract(check: Any) -> None:
    check(find(BAYES))


def test_it_predicts_what_it_predicts_in_river() -> None:
    learner = create(TREE, LearnerContext(Layout(), seed=3, options={"grace_period": 20}))
    made: Any = HoeffdingAdaptiveTreeClassifier
    tree = made(grace_period=20, seed=3)
    x_BCHW, y_B = batch(100, seed=1)
    learner.learn(x_BCHW, y_B)
    pixels = x_BCHW.flatten(1).to(torch.float32).div(255).tolist()
    for x_D, y in zip(pixels, y_B.tolist(), strict=True):
        tree.learn_one(dict(enumerate(x_D)), y)
    p_BK = learner.predict_proba(x_BCHW[:10])
    for p_K, x_D in zip(p_BK, pixels, strict=False):
        for label, p in tree.predict_proba_one(dict(enumerate(x_D))).items():
            assert p_K[int(label)].item() == pytest.approx(p, abs=1e-6)


def test_it_runs_from_python() -> None:
    x_BCHW, y_B = batch(120, seed=1)
    run = lethe.run(BAYES, {"corners": (x_BCHW, y_B)}, {"corners": batch(30, seed=2)}, classes=10)
    assert run.R[-1, 0] > 0.9
    assert run.result.learner == BAYES


def test_a_service_with_checkpoints_refuses_it(tmp_path: Any) -> None:
    settings = Settings.read({"learner": {"name": BAYES}, "checkpoint": {"folder": tmp_path / "state"}})
    with pytest.raises(InvalidSetting, match=r"cannot be written without pickle.*leave checkpoint\.folder"):
        load_inputs(settings)
    assert load_inputs(Settings.read({"learner": {"name": BAYES}})).learner.name == BAYES


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("river:tree.Nonesuch", {}, "river has no tree.Nonesuch"),
        ("river:GaussianNB", {}, "river has no .GaussianNB"),
        ("river:os.system", {}, "river has no os.system"),
        ("river:linear_model.LinearRegression", {}, "is no classifier of river"),
        (TREE, {"depth": 3}, "depth: no such option, there are grace_period"),
        (TREE, {"leaf_prediction": {"a": 1}}, "leaf_prediction"),
    ],
)
def test_what_river_does_not_have_is_refused_by_name(name: str, options: Any, said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        create(name, LearnerContext(Layout(), options=options))


def test_without_river_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river.base", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lethe\[river\]'"):
        find(TREE)


def model() -> Any:
    return preprocessing.StandardScaler() | Classifier("finetune", max_classes=2, options={"lr": 0.01})


def test_rivers_evaluators_run_on_a_learner() -> None:
    metric: Any = metrics.Accuracy
    accuracy = evaluate.progressive_val_score(datasets.Phishing().take(400), model(), metric())
    assert accuracy.get() > 0.8


def test_a_batch_gives_a_frame_of_probabilities() -> None:
    classifier = Classifier("ncm", shape=(1, 8, 8), bounds=(0, 255), max_classes=10)
    x_BCHW, y_B = batch(200, seed=1)
    X, y = (
        pd.DataFrame(x_BCHW.flatten(1).numpy(), index=range(5, 205)),
        pd.Series([f"c{y}" for y in y_B.tolist()]),
    )
    assert classifier.predict_proba_many(X).shape == (200, 0)
    classifier.learn_many(X, y)
    p = classifier.predict_proba_many(X)
    assert p.index.tolist() == X.index.tolist()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (classifier.predict_many(X).to_numpy() == y.to_numpy()).mean() > 0.9
    one = classifier.predict_proba_one(X.iloc[0].to_dict())
    assert one == pytest.approx(p.iloc[0].to_dict(), abs=1e-6)


def test_one_class_too_many_and_wrong_bounds_are_refused() -> None:
    classifier = Classifier("finetune", max_classes=2)
    for label in ("a", "b"):
        classifier.learn_one({"x": 0.5, "y": 1.0}, label)
    with pytest.raises(ValueError, match="class 'c' is one more than max_classes=2"):
        classifier.learn_one({"x": 0.5, "y": 1.0}, "c")
    with pytest.raises(ValueError, match="bounds"):
        Classifier(bounds=(1, 1))
    with pytest.raises(ValueError, match="a sample has 2 features"):
        Classifier(shape=(1, 8, 8)).learn_one({"x": 0.5, "y": 1.0}, "a")


@pytest.mark.long
def test_it_passes_rivers_own_checks() -> None:
    checks.check_estimator(Classifier("finetune"))
