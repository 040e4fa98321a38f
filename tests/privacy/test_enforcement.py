"""A policy bounds the settings of a run, and its enforcer detects violations while the run is going."""

from pathlib import Path
from typing import Any

import pytest

from lethe.errors import InvalidSetting
from lethe.events import (
    BatchLearned,
    Event,
    PolicyViolated,
    PrivacySpent,
    PurgeLag,
    SamplesRetained,
    ViolationPersists,
)
from lethe.learners.registry import LEARNERS
from lethe.privacy.apply import FETCH_BYTES, apply_budget, apply_policy
from lethe.privacy.enforcement import PolicyEnforcer
from lethe.privacy.policy import Policy
from lethe.settings import Settings


def policy(**more: Any) -> Policy:
    return Policy.model_validate({"name": "x", "retention": "nothing", "residency_seconds": 5} | more)


def settings(**more: Any) -> Settings:
    return Settings.read({"checkpoint": {"folder": Path("state")}} | more)


def learned(residency: float) -> BatchLearned:
    return BatchLearned(64, 64, 32, 0.5, 0.01, residency, 1.0, 0.5, 0.5)


@pytest.mark.parametrize(("on_violation", "stops"), [("count", False), ("stop", True)])
def test_a_residency_beyond_the_policy_is_a_violation_and_stops_the_run_if_the_policy_says_so(
    on_violation: str, stops: bool
) -> None:
    seen: list[Event] = []
    enforcer = PolicyEnforcer(policy(on_violation=on_violation), seen.append, now=lambda: 1234.5)
    enforcer(learned(5.0))
    assert not seen
    enforcer(learned(5.1))
    assert [(event.rule, event.at) for event in seen if isinstance(event, PolicyViolated)] == [
        ("residency", 1234.5)
    ]
    assert enforcer.must_stop is stops


def test_an_overdue_purge_is_one_violation_until_it_has_caught_up() -> None:
    seen: list[Event] = []
    times = iter(range(100, 200))
    enforcer = PolicyEnforcer(policy(on_violation="stop"), seen.append, now=lambda: next(times))
    for seconds in (0.0, 59.0, 61.0, 62.0, 10.0):
        enforcer(PurgeLag(seconds, records=64, within=60.0))
    (violated, lasts) = seen
    assert isinstance(violated, PolicyViolated)
    assert (violated.rule, violated.at) == ("purge", 100)
    assert lasts == ViolationPersists("purge", 101)
    assert enforcer.must_stop
    enforcer(PurgeLag(70.0, records=64, within=60.0))
    assert [type(event) for event in seen] == [PolicyViolated, ViolationPersists, PolicyViolated]


def test_a_sample_that_may_be_kept_too_long_is_a_violation() -> None:
    seen: list[Event] = []
    enforcer = PolicyEnforcer(policy(), seen.append)
    enforcer(SamplesRetained(3599.0, allowed=3600.0))
    assert not seen
    for seconds in (3601.0, 3602.0):
        enforcer(SamplesRetained(seconds, allowed=3600.0))
    assert [event.rule for event in seen if isinstance(event, PolicyViolated)] == ["ttl"]


def test_a_learner_may_keep_as_many_samples_as_the_policy_allows_and_no_more() -> None:
    replay = LEARNERS["replay"]
    few = {"retention": "samples", "samples": {"capacity": 100, "ttl_seconds": 60}}
    within = settings(learner={"name": "replay", "options": {"capacity": 100}})
    assert apply_policy(within, policy(**few), replay, []).learner == within.learner
    with pytest.raises(InvalidSetting, match="replay would keep 101 samples, policy x allows 100"):
        apply_policy(
            settings(learner={"name": "replay", "options": {"capacity": 101}}), policy(**few), replay, []
        )


def test_if_residency_is_bounded_few_batches_are_read_ahead() -> None:
    finetune = LEARNERS["finetune"]
    for size, slots in ((1, 16), (64, 4), (512, 2)):
        assert apply_policy(settings(batch={"size": size}), policy(), finetune, []).batch.slots == slots


def test_checkpoints_are_as_frequent_as_the_purge_needs_them() -> None:
    finetune = LEARNERS["finetune"]
    soon = apply_policy(settings(), policy(purge={"within_seconds": 60}), finetune, [])
    assert soon.checkpoint.every_seconds == 10  # of three that are kept, each is the oldest in time
    late = apply_policy(settings(), policy(purge={"within_seconds": 86400}), finetune, [])
    assert late.checkpoint == settings().checkpoint


@pytest.mark.parametrize(
    ("epsilon", "delta", "broken"), [(8.0, 1e-5, False), (8.1, 1e-5, True), (1.0, 1e-4, True)]
)
def test_more_privacy_spent_than_the_policys_budget_is_a_violation(
    epsilon: float, delta: float, broken: bool
) -> None:
    seen: list[Event] = []
    enforcer = PolicyEnforcer(policy(budget={"epsilon": 8, "delta": 1e-5}), seen.append)
    enforcer(PrivacySpent(0.0, delta, 8.0, spent=False))
    assert not seen
    enforcer(PrivacySpent(epsilon, delta, 8.0, spent=False))
    assert [type(event) for event in seen] == [PolicyViolated] * broken


def test_under_a_budget_only_a_private_learner_is_accepted_and_gets_secret_noise() -> None:
    vault = policy(budget={"epsilon": 2, "delta": 1e-6})
    private = settings(learner={"name": "dp-finetune", "options": {"clip": 1.5}})
    kind = LEARNERS["dp-finetune"]
    assert apply_budget(private, vault, kind).learner.options == {
        "epsilon": 2.0,
        "delta": 1e-6,
        "noise": "secret",
        "clip": 1.5,
    }
    assert apply_budget(private, policy(), kind) == private
    with pytest.raises(InvalidSetting, match="finetune is not differentially private, policy x"):
        apply_budget(settings(), vault, LEARNERS["finetune"])
    for option, value in {"epsilon": 2.5, "delta": 1e-5, "noise": "seeded"}.items():
        beyond = settings(learner={"name": "dp-finetune", "options": {option: value}})
        with pytest.raises(InvalidSetting, match=rf"learner\.options\.{option} is .*policy x"):
            apply_budget(beyond, vault, kind)
    lingering = settings(learner={"name": "dp-finetune"}, batch={"linger": 0.5})
    assert apply_budget(lingering, vault, kind).batch.linger == 0.5, (
        "no restart draws the same noise for others"
    )


def test_without_a_limit_nothing_is_a_violation() -> None:
    seen: list[Event] = []
    PolicyEnforcer(policy(residency_seconds=None), seen.append)(learned(1e6))
    assert not seen


def test_if_residency_is_bounded_less_is_fetched_at_once() -> None:
    finetune = LEARNERS["finetune"]
    assert apply_policy(settings(), policy(), finetune, []).stream.fetch_bytes == FETCH_BYTES
    small = settings(stream={"fetch_bytes": 2048})
    assert apply_policy(small, policy(), finetune, []).stream.fetch_bytes == 2048
    free = policy(residency_seconds=None)
    assert apply_policy(settings(), free, finetune, []) == settings()


def test_settings_beyond_the_policy_are_rejected_by_name() -> None:
    finetune, ridge = LEARNERS["finetune"], LEARNERS["ridge"]
    with pytest.raises(InvalidSetting, match="ridge keeps statistics, policy x allows nothing"):
        apply_policy(settings(), policy(), ridge, [])
    with pytest.raises(InvalidSetting, match="dead_letter_payloads: policy x"):
        apply_policy(settings(stream={"dead_letter_payloads": True}), policy(), finetune, [])
    with pytest.raises(InvalidSetting, match=r"batch\.linger 1: under residency_seconds 2 of policy x"):
        apply_policy(settings(batch={"linger": 1.0}), policy(residency_seconds=2), finetune, [])
    assert apply_policy(settings(batch={"linger": 0.9}), policy(residency_seconds=2), finetune, [])
    with pytest.raises(InvalidSetting, match="policy x asks for a ledger: --state"):
        apply_policy(Settings.read({}), policy(), finetune, [])
