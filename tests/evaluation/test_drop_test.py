"""The sequential test finds drops soon, and hardly ever one that is none."""

import numpy as np
import pytest

from lethe.evaluation.drop_test import DropTest


def images_until_alarm(
    drop: float, quiet_rounds: int, tests: int = 200, noise: float = 0.0, batch: int = 16
) -> np.ndarray:
    """Images from the drop to the alarm; -1 for an alarm before."""
    random = np.random.default_rng(0)
    test = DropTest(0.05, tests=tests)
    found = np.zeros(tests, dtype=np.int64)
    for step in range(quiet_rounds + 2000):
        test.start_round()
        after = step >= quiet_rounds
        p = [noise / 2 + (drop if after else 0), noise / 2]
        lost, gained, _ = random.multinomial(batch, [*p, 1 - sum(p)], size=tests).T
        test.add(lost, gained, batch)
        new = (found == 0) & test.alarm
        found[new] = (step - quiet_rounds + 1) * batch if after else -1
        if found.all():
            break
    assert found.all()
    return found


def test_a_drop_is_found_with_few_images() -> None:
    assert np.median(images_until_alarm(0.05, quiet_rounds=0)) < 600
    assert np.median(images_until_alarm(0.5, quiet_rounds=0, batch=1)) < 25


def test_a_drop_after_a_long_quiet_time_is_found_as_well() -> None:
    assert np.median(images_until_alarm(0.05, quiet_rounds=2000, tests=50)) < 1600
    assert np.median(images_until_alarm(0.5, quiet_rounds=2000, tests=50, batch=4)) < 70


@pytest.mark.parametrize("noise", [0.0, 0.04, 0.5])
def test_without_a_drop_alarms_are_rarer_than_alpha(noise: float) -> None:
    random = np.random.default_rng(1)
    test, alarmed = DropTest(0.05, tests=400), np.zeros(400, dtype=bool)
    for _ in range(1000):
        test.start_round()
        lost, gained, _ = random.multinomial(16, [noise / 2, noise / 2, 1 - noise], size=400).T
        test.add(lost, gained, 16)
        alarmed |= test.alarm
    assert alarmed.mean() <= 0.05


def test_a_loss_within_the_tolerance_is_no_drop_however_long_it_lasts() -> None:
    random = np.random.default_rng(2)
    test, alarmed = DropTest(0.05, tolerance=0.02, tests=400), np.zeros(400, dtype=bool)
    for _ in range(1000):
        test.start_round()
        lost, gained, _ = random.multinomial(16, [0.03, 0.01, 0.96], size=400).T
        test.add(lost, gained, 16)
        alarmed |= test.alarm
    assert alarmed.mean() <= 0.05


def test_the_evidence_begins_at_one_and_counts_what_is_held_back() -> None:
    test = DropTest(0.05)
    assert test.evidence.tolist() == [1.0]
    test.start_round()
    assert test.evidence.tolist() == pytest.approx([1.0])
    assert (test.rounds, test.images) == (1, 0)


def test_a_thousand_draws_at_once_stay_within_floats() -> None:
    test = DropTest(0.05)
    test.start_round()
    test.add(lost=0, gained=5000, images=5000)
    assert 0 < test.evidence[0] < 1
    test.add(lost=5000, gained=0, images=5000)
    assert np.isfinite(test.evidence).all()


@pytest.mark.parametrize(("alpha", "tolerance"), [(0.0, 0.01), (1.0, 0.01), (0.05, -0.1), (0.05, 0.2)])
def test_impossible_probabilities_are_refused(alpha: float, tolerance: float) -> None:
    with pytest.raises(ValueError, match="="):
        DropTest(alpha, tolerance)


def test_draws_belong_to_a_round() -> None:
    with pytest.raises(ValueError, match="no round"):
        DropTest(0.05).add(0, 0, 1)
