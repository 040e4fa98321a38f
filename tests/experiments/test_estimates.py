"""The error of the accuracy that is estimated from confidences, measured on a stream."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lethe.experiments.bench.estimates import measure_estimate
from lethe.experiments.bench.withheld_labels import WithheldLabels
from lethe.ingest.memory_feed import Malformed
from lethe.runtime.predictions import Predicted
from lethe.wire import UNLABELLED, Sample
from tests.support.filled import filled


def test_predictions_for_withheld_labels_are_compared_in_the_order_of_the_stream() -> None:
    withheld = WithheldLabels(0.5, 0)
    stream = [Sample(np.zeros((1, 2, 2), np.uint8), number % 7) for number in range(100)]
    given = list(withheld.withhold([*stream, Malformed()]))
    hidden = [n for n in range(100) if isinstance(one := given[n], Sample) and one.label == UNLABELLED]
    assert 30 < len(hidden) < 70
    assert isinstance(given[100], Malformed)
    right = [stream[n].label for n in hidden]
    for first, last, wrong in ((0, 20, 3), (20, len(hidden), 0)):
        predictions = [(label + 1) % 7 if n < wrong else label for n, label in enumerate(right[first:last])]
        classes = torch.tensor([6, 6, *reversed(predictions)])  # two samples had a label
        batch = replace(filled(0, count=2), unlabelled=last - first)
        withheld.add(batch, Predicted(classes, torch.zeros(len(classes), 7)), 0)
        assert withheld.correct == last - first - wrong


@pytest.mark.long
@pytest.mark.parametrize("unlabelled", [0.0, 0.5])
def test_the_estimate_is_near_the_true_accuracy_away_from_switches(unlabelled: float) -> None:
    error = measure_estimate("ridge", "mnist-to-fashion", 0, 6000, unlabelled)
    assert error.after_switch is not None
    assert error.steady < 0.05
    assert error.steady < error.after_switch <= error.largest < 1
