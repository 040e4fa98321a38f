"""The objective on forgetting counts the evaluations in which every old skill was within its floor."""

from collections.abc import Sequence

import pytest

from deploy.grafana.decisions import decision
from lethe.evaluation import objective
from lethe.evaluation.history import History
from lethe.events import Evaluated, ScoresUpdated
from tests.support.readings import readings


def at(history: History, *accuracies: float, ends: bool = False) -> ScoresUpdated:
    accuracy = dict(zip(history.probes, accuracies, strict=True))
    history.learned(100, 50)
    visit = len(history.segments)
    full = ends or visit == 0
    return history.evaluated(Evaluated(history.samples, readings(accuracy), full, visit, None, ends, 0.1))


def untrained(probes: Sequence[str]) -> History:
    history = History(probes)
    accuracy = dict.fromkeys(probes, 0.1)
    history.evaluated(Evaluated(0, readings(accuracy), True, 0, None, False, 0.1))
    return history


def test_the_share_is_of_the_evaluations_since_a_skill_is_old() -> None:
    history = untrained(["a", "b"])
    history.segment_started("a")
    assert at(history, 0.9, 0.1).scores.within_floor is None, "no skill is old yet"
    at(history, 0.95, 0.1, ends=True)
    history.segment_started("b")
    shares = [at(history, a, 0.8).scores.within_floor for a in (0.9, 0.86, 0.84, 0.3, 0.95)]
    assert shares == pytest.approx([1, 1, 2 / 3, 2 / 4, 3 / 5])


def test_a_skill_that_was_never_learned_has_no_floor() -> None:
    history = untrained(["a", "b"])
    history.segment_started("a")
    at(history, 0.45, 0.1, ends=True)
    history.segment_started("b")
    assert at(history, 0.1, 0.8).scores.within_floor is None


def test_without_segments_every_skill_that_was_learned_counts() -> None:
    history = untrained(["a", "b"])
    assert [at(history, a, 0.2).scores.within_floor for a in (0.4, 0.9, 0.7)] == [None, 1.0, 0.5]


def test_a_withdrawn_segment_leaves_no_trace_and_a_checkpoint_none_out() -> None:
    withdrawn, never = untrained(["a", "b"]), untrained(["a", "b"])
    for history in (withdrawn, never):
        history.segment_started("a")
        at(history, 0.9, 0.1, ends=True)
        history.segment_started("b")
        at(history, 0.3, 0.8, ends=history is withdrawn)
    withdrawn.segment_started("a", confirmed=False)
    at(withdrawn, 0.2, 0.9)
    withdrawn.segment_withdrawn()
    at(never, 0.2, 0.9)
    again = History.from_json(withdrawn.to_json())
    assert at(withdrawn, 0.9, 0.9).scores.within_floor == at(never, 0.9, 0.9).scores.within_floor == 1 / 3
    assert at(again, 0.9, 0.9).scores.within_floor == 1 / 3


def test_the_limits_are_those_of_the_rules() -> None:
    assert decision("forgetting_ratio") == objective.FORGOTTEN
    assert decision("learned_ratio") == objective.LEARNED
    assert decision("skills_within_floor_objective") == objective.OBJECTIVE
