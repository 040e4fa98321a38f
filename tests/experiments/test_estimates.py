"""The error of the accuracy that is estimated from confidences, measured on a stream."""

import pytest

from lethe.experiments.bench.estimates import measure_estimate


@pytest.mark.long
def test_the_estimate_is_near_the_measured_accuracy_away_from_switches() -> None:
    error = measure_estimate("ridge", "mnist-to-fashion", 0, 3000)
    assert error.after_switch is not None
    assert error.steady < 0.03
    assert error.steady < error.after_switch <= error.largest < 1
