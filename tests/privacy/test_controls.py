"""Privacy controls: without a policy they allow everything; with one they answer as the policy says."""

import pytest

from lethe.errors import InvalidSetting, PolicyBroken
from lethe.events import BatchLearned, Event, PolicyViolated
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.gradient.replay import Replay
from lethe.learners.registry import LEARNERS
from lethe.privacy.controls import Controls, PolicyControls, load_controls
from lethe.privacy.policy import Policy, load_policy
from lethe.settings import PrivacySettings, Settings
from tests.support.runs import probe

LATE = BatchLearned(64, 64, 32, 0.5, 0.01, 60.0, 1.0, 0.5, 0.5)


def test_without_a_policy_everything_is_allowed() -> None:
    controls, settings = load_controls(PrivacySettings()), Settings()
    assert type(controls) is Controls
    assert all(controls.apply(settings, kind, []) is settings for kind in LEARNERS.values())
    assert all(controls.detects_boundaries(kind) for kind in LEARNERS.values())
    assert not controls.time_to_live(Replay, settings.checkpoint).is_limited
    assert controls.segment_names([probe("a")]) is None
    assert (controls.purges, controls.evaluates_apart) == (False, False)
    assert (controls.policy_name, controls.allows, controls.digest) == (None, None, None)
    for kind in LEARNERS.values():
        controls.check_learner(kind)
    assert (controls.publishes_prequential, controls.keeps_segment_names) == (True, True)


def test_without_a_policy_nothing_is_a_violation() -> None:
    events: list[Event] = []
    enforcer = Controls().create_enforcer(events.append)
    enforcer(LATE)
    enforcer.raise_if_stopped()
    assert not events
    assert not enforcer.must_stop


def test_the_controls_of_an_included_policy_are_its_limits() -> None:
    controls = load_controls(PrivacySettings(policy="clinic"))
    assert (controls.residency_seconds, controls.evaluates_apart, controls.purges) == (5, True, True)
    policy = load_policy("clinic")
    assert (controls.policy_name, controls.digest) == ("clinic", policy.digest)
    assert controls.allows == policy.retention.value
    with pytest.raises(InvalidSetting, match="learner replay keeps samples, policy clinic allows"):
        controls.check_learner(Replay)
    controls.check_learner(Finetune)
    assert controls.segment_names([probe("a"), probe("b")]) == frozenset({"a", "b"})
    assert controls.publishes_prequential
    assert controls.detects_boundaries(Finetune)
    assert not load_controls(PrivacySettings(policy="vault")).publishes_prequential


def test_a_violation_stops_the_service_with_an_error_that_names_policy_and_rule() -> None:
    policy = Policy.model_validate(
        {"name": "ward", "retention": "nothing", "residency_seconds": 5, "on_violation": "stop"}
    )
    events: list[Event] = []
    enforcer = PolicyControls(policy).create_enforcer(events.append)
    enforcer.raise_if_stopped()
    enforcer(LATE)
    assert [type(event) for event in events] == [PolicyViolated]
    assert enforcer.must_stop
    with pytest.raises(PolicyBroken, match="policy ward, residency: samples were in the service for 60"):
        enforcer.raise_if_stopped()
