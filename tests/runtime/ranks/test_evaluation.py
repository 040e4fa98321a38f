"""Parts of an evaluation become one result, or none."""

import numpy as np
import pytest

from lethe.errors import DivergedLoss, InvalidSetting
from lethe.evaluation.evaluator import Evaluator, Interrupted
from lethe.evaluation.tally import Tally
from lethe.learners.base import LearnerContext
from lethe.learners.registry import create
from lethe.probeset import ProbeSet
from lethe.runtime.ranks.evaluation import PART, Part, Task, evaluate_part, joined_parts
from lethe.wire import Layout

LAYOUT = Layout(height=8, width=8, classes=3)
NCM = create("ncm", LearnerContext(LAYOUT, options={"waves": 4}))
PROBE = ProbeSet("a", np.zeros((7, 1, 8, 8), np.uint8), np.arange(7) % 3, "made up", "none needed")
HASHES = {"a": PROBE.sha256}


def part(stop: bool = False) -> Part:
    evaluator = Evaluator([PROBE], 5, 0)
    return evaluate_part(evaluator, NCM, Task(True, None, HASHES), HASHES, lambda: stop)


def test_parts_are_added_up_in_the_order_of_the_probes() -> None:
    other = {"a": Tally(1, 1, 1, 1, (0, 1), (0, 1), (0,)), "b": Tally(2, 1, 1, 0, (2,), (1,), (0,))}
    readings = joined_parts([part(), Part(other), Part({})])
    assert list(readings) == ["a", "b"]
    assert readings["a"].accuracy == (part().tallies["a"].correct + 1) / 8
    assert readings["b"].on_subset == 0


def test_one_rank_that_is_asked_to_stop_interrupts_all() -> None:
    with pytest.raises(Interrupted):
        joined_parts([part(), part(stop=True)])


def test_one_rank_that_diverges_is_named() -> None:
    with pytest.raises(DivergedLoss, match="on the probe a are not finite"):
        joined_parts([part(), Part({}, diverged="predictions on the probe a are not finite")])


def test_a_part_is_sent_as_json() -> None:
    assert PART.validate_json(PART.dump_json(part())) == part()


def test_other_probes_than_rank_0_has_are_refused() -> None:
    task = Task(True, None, HASHES)
    for evaluator, hashes in ((None, {}), (Evaluator([PROBE], 5, 0), {"a": "0"})):
        with pytest.raises(InvalidSetting, match=r"evaluation.probes: rank 0 has other probes"):
            evaluate_part(evaluator, NCM, task, hashes, lambda: False)
