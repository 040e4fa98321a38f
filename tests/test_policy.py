"""Policies: what they say, whom they refuse, and what their errors name."""

from pathlib import Path

import numpy as np
import pytest

from service.errors import InvalidSetting
from service.learners import LEARNERS
from service.learners.base import Learner, Retention
from service.privacy.policy import Policy, load_policy
from service.probeset import ProbeSet

POLICIES = Path(__file__).parent.parent / "deploy" / "policies"


def probe(name: str) -> ProbeSet:
    return ProbeSet(name, np.zeros((1, 1, 28, 28), np.uint8), np.zeros(1, np.int64), "made", "given")


def write(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["lab", "clinic", "vault"])
def test_the_shipped_policies_can_be_read_and_are_named_after_their_files(name: str) -> None:
    assert load_policy(POLICIES / f"{name}.yaml").name == name
    assert load_policy(name) == load_policy(POLICIES / f"{name}.yaml")


def test_the_clinic_takes_statistics_and_the_vault_does_not() -> None:
    load_policy(POLICIES / "clinic.yaml").check_learner(LEARNERS["ridge"])
    with pytest.raises(InvalidSetting, match="learner ridge keeps statistics, policy vault allows nothing"):
        load_policy(POLICIES / "vault.yaml").check_learner(LEARNERS["ridge"])


@pytest.mark.parametrize("kind", LEARNERS.values(), ids=LEARNERS)
def test_a_learner_is_taken_exactly_where_it_keeps_no_more_than_is_allowed(kind: type[Learner]) -> None:
    order = list(Retention)
    for allowed in Retention:
        limits = {"capacity": 1, "ttl_seconds": 1} if allowed is Retention.SAMPLES else None
        policy = Policy.model_validate({"name": "x", "retention": allowed, "samples": limits})
        if order.index(kind.retains) <= order.index(allowed):
            policy.check_learner(kind)
        else:
            with pytest.raises(InvalidSetting, match=kind.name):
                policy.check_learner(kind)


def test_probe_sets_need_consent() -> None:
    policy = Policy(name="x", retention=Retention.NOTHING, probes=["mnist"])
    policy.check_probes([probe("mnist")])
    with pytest.raises(InvalidSetting, match="probe sets faces: policy x consents to mnist"):
        policy.check_probes([probe("mnist"), probe("faces")])
    with pytest.raises(InvalidSetting, match="consents to none"):
        Policy(name="x", retention=Retention.NOTHING, probes=[]).check_probes([probe("mnist")])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: x\nretention: everything", "retention"),
        ("name: x\nretention: nothing\nresidency: 5", "residency"),
        ("name: x\nretention: nothing\nresidency_seconds: -1", "residency_seconds"),
        ("name: x\nretention: samples", "samples"),
        ("name: x\nretention: nothing\nsamples: {capacity: 1, ttl_seconds: 1}", "samples"),
        ("name: x\nretention: nothing\npurge: {}", "purge.within_seconds"),
        ("name: x\nretention: nothing\nbudget: {epsilon: 1, delta: 2}", "budget.delta"),
        ("name: [", "cannot be read"),
        ("just text", "policy"),
    ],
)
def test_a_bad_policy_is_refused_naming_file_and_key(text: str, named: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidSetting) as refused:
        load_policy(path)
    assert str(path) in str(refused.value)
    assert named in str(refused.value)


def test_a_missing_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"absent\.yaml"):
        load_policy(tmp_path / "absent.yaml")


def test_the_digest_follows_the_content_not_the_spelling(tmp_path: Path) -> None:
    first = load_policy(write(tmp_path, "name: x\nretention: nothing\n")).digest
    assert load_policy(write(tmp_path, "# a comment\nretention: nothing\nname: x\n")).digest == first
    assert load_policy(write(tmp_path, "name: x\nretention: statistics\n")).digest != first
