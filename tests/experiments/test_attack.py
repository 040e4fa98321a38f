"""Membership inference: attacks succeed on learners that leak, and only on those."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lethe.cli.main import main
from lethe.experiments.attack.inference import logit, loss_threshold
from lethe.experiments.attack.roc import auc, tpr_at
from lethe.experiments.attack.shadows import Shadows, assign_members, run_attack
from lethe.privacy.samples import Samples
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=4)


@given(
    arrays(np.float64, st.integers(1, 20), elements=st.integers(0, 5)),
    arrays(np.float64, st.integers(1, 20), elements=st.integers(0, 5)),
)
def test_auc_is_the_chance_that_a_member_scores_above_another(members: Any, others: Any) -> None:
    pairs = [(m > o) + (m == o) / 2 for m in members for o in others]
    assert auc(members, others) == pytest.approx(np.mean(pairs))
    assert auc(members, others) + auc(others, members) == pytest.approx(1)


def test_tpr_counts_members_above_what_the_allowed_share_of_others_reaches() -> None:
    others = np.arange(100.0)
    assert tpr_at(0.01, np.array([98.5, 99.5, 1.0, 98.0]), others) == 0.5
    assert tpr_at(0.0, np.array([98.5, 99.5]), others) == 0.5
    assert tpr_at(1.0, np.array([-5.0]), others) == 1.0
    assert tpr_at(0.01, np.zeros(5), np.zeros(100)) == 0.0, "ties are no finds"


def test_a_logit_does_not_saturate_when_the_probability_does() -> None:
    p_NK = np.array([[1.0, 1e-20, 0.0], [0.0, 0.5, 0.5], [0.2, 0.8, 0.0]])
    found = logit(p_NK, np.array([0, 1, 2]))
    assert found[0] == pytest.approx(np.log(1e20))
    assert found[1] == 0.0
    assert np.isfinite(found).all()


@given(st.integers(2, 10), st.integers(1, 5), st.integers(2, 50), st.integers(0, 100))
def test_half_of_the_shadows_learn_each_sample_and_each_target_half_of_them(
    pairs: int, targets: int, samples: int, seed: int
) -> None:
    who = assign_members(2 * pairs, targets, samples, seed)
    assert (who[: 2 * pairs].sum(0) == pairs).all()
    assert (who[2 * pairs :].sum(1) == samples // 2).all()


def made_up(leak: float, seed: int = 0) -> Shadows:
    """Logits of 16 shadows and 10 targets: samples differ in difficulty and, by ``leak``, in membership."""
    dice = np.random.default_rng(seed)
    who = assign_members(16, 10, 400, seed)
    logits = 5 * dice.normal(size=400) + dice.normal(size=(26, 400)) + leak * who
    return Shadows("made up", 16, logits, logits > 0, who)


def test_a_leak_is_found_and_by_comparison_better_than_by_the_loss_alone() -> None:
    by_loss, ratio = made_up(leak=2.0).leaks()
    assert 0.55 < by_loss.auc < 0.7
    assert 0.85 < ratio.auc < 0.95
    assert ratio.tpr > 0.2 > by_loss.tpr


def test_without_a_leak_nothing_is_found() -> None:
    for leak in made_up(leak=0.0).leaks():
        assert leak.auc == pytest.approx(0.5, abs=0.02)
        assert leak.tpr < 0.03
        assert leak.accuracy_learned == pytest.approx(leak.accuracy_held_out, abs=0.03)


def test_a_smaller_loss_scores_higher() -> None:
    p_NK = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    scores = loss_threshold(logit(p_NK, np.zeros(3, np.int64)))
    assert (np.diff(scores) < 0).all()


def test_the_attack_finds_members_of_ridge_and_none_under_differential_privacy() -> None:
    dice = np.random.default_rng(0)
    pool = Samples(dice.integers(0, 256, (120, *LAYOUT.shape), np.uint8), dice.integers(0, 4, 120))
    who = assign_members(6, 2, 120, 0)
    (_, ridge) = run_attack("ridge", pool, who, 6, LAYOUT, {"waves": 200}).leaks()
    (_, private) = run_attack("dp-finetune", pool, who, 6, LAYOUT, {"epsilon": 0.5}).leaks()
    assert ridge.auc > 0.9
    assert private.auc == pytest.approx(0.5, abs=0.1)
    assert ridge.accuracy_learned > ridge.accuracy_held_out + 0.3


def test_the_command_refuses_before_anything_is_learned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, why in (
        (["--learner", "lehte"], "learner 'lehte' does not exist"),
        (["--option", "clip=1"], "--option applies to one learner"),
        (["--shadows", "5"], "--shadows 5: must be even: half of them"),
        (["--dataset", "cifar"], "--dataset cifar: known are mnist, fashion-mnist"),
    ):
        monkeypatch.setattr("sys.argv", ["lethe", "attack", *arguments])
        with pytest.raises(SystemExit):
            main()
        assert why in capsys.readouterr().err
