"""Policies: their content, which learners they reject, and what their errors name."""

from pathlib import Path

import numpy as np
import pytest

from lethe.errors import InvalidSetting
from lethe.learners.base import Learner, Retention
from lethe.learners.registry import LEARNERS
from lethe.privacy.controls import load_controls
from lethe.privacy.policy import Policy, load_policy
from lethe.probeset import ProbeSet
from lethe.settings import PrivacySettings, Settings

CLINIC = "5f8f0a7d595dfe48b2016e7f2535feb9400ae7cf3b1cfec7b772a96f9734368a"
"""The digest of clinic in receipts of earlier versions."""
POLICIES = Path(__file__).parents[2] / "deploy" / "policies"


def probe(name: str) -> ProbeSet:
    return ProbeSet(name, np.zeros((1, 1, 28, 28), np.uint8), np.zeros(1, np.int64), "made", "given")


def write(folder: Path, text: str) -> str:
    path = folder / "policy.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["lab", "clinic", "vault"])
def test_the_shipped_policies_can_be_read_and_are_named_after_their_files(name: str) -> None:
    assert load_policy(str(POLICIES / f"{name}.yaml")).name == name
    assert load_policy(name) == load_policy(str(POLICIES / f"{name}.yaml"))


def test_clinic_accepts_statistics_and_vault_does_not() -> None:
    load_policy("clinic").check_learner(LEARNERS["ridge"])
    with pytest.raises(InvalidSetting, match="learner ridge keeps statistics, policy vault allows nothing"):
        load_policy("vault").check_learner(LEARNERS["ridge"])


@pytest.mark.parametrize("name", ["clinic", "vault"])
def test_predictions_leave_the_service_only_where_the_policy_says_so(name: str, tmp_path: Path) -> None:
    learner = {"clinic": "ridge", "vault": "dp-finetune"}[name]
    settings = Settings.read(
        {
            "stream": {"predictions_topic": "guesses"},
            "learner": {"name": learner},
            "checkpoint": {"folder": tmp_path},
        }
    )
    with pytest.raises(InvalidSetting, match=rf"stream.predictions_topic: policy {name} does not allow"):
        load_controls(PrivacySettings(policy=name)).apply(settings, LEARNERS[learner], [])
    load_controls(PrivacySettings(policy="lab")).apply(settings, LEARNERS[learner], [])


def test_predictions_are_beyond_any_budget(tmp_path: Path) -> None:
    text = "name: x\nretention: nothing\nbudget: {epsilon: 1, delta: 1e-5}\npredictions: true\n"
    with pytest.raises(InvalidSetting, match="predictions: each is a number about one record"):
        load_policy(write(tmp_path, text))


def test_a_policy_that_says_nothing_of_predictions_keeps_its_digest() -> None:
    assert load_policy("clinic").digest == CLINIC


@pytest.mark.parametrize("kind", LEARNERS.values(), ids=LEARNERS)
def test_a_learner_is_accepted_if_it_retains_no_more_than_allowed(kind: type[Learner]) -> None:
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
        (
            "name: x\nretention: nothing\nbudget: {epsilon: 1, delta: 1e-5}\nprequential: true",
            "prequential: exact accuracy on the stream is beyond any budget",
        ),
        ("name: [", "line 1 is not YAML"),
        ("just text", "line 1: Input should be"),
        ("name: x\nretention: nothing\npurge:\n  within_seconds: -1", "line 4: purge.within_seconds"),
        ("name: x\nretention: nothing\nbudget: " + "[" * 5_000, "nested too deeply"),
    ],
)
def test_a_bad_policy_is_rejected_naming_file_and_key(text: str, named: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidSetting) as refused:
        load_policy(path)
    assert path in str(refused.value)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "lab" not in str(refused.value)  # the shipped ones have nothing to do with it


def test_accuracy_on_the_stream_is_published_unless_there_is_a_budget_or_the_policy_says_no() -> None:
    published = {name: load_policy(name).publishes_prequential for name in ("lab", "clinic", "vault")}
    assert published == {"lab": True, "clinic": True, "vault": False}
    discreet = Policy(name="x", retention=Retention.STATISTICS, prequential=False)
    assert not discreet.publishes_prequential
    assert discreet.digest != Policy(name="x", retention=Retention.STATISTICS).digest


def test_receipts_of_a_version_without_the_key_name_the_same_policy() -> None:
    vault = load_policy("vault").digest
    assert vault == "529c06dd04322760b2a0ce7fc99ab713cb8d21765965aadc843986a7b8c18935"


def test_a_missing_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"absent\.yaml"):
        load_policy(str(tmp_path / "absent.yaml"))


def test_a_file_in_the_working_folder_never_takes_the_place_of_a_shipped_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = load_policy("clinic")
    ours = "name: clinic\nretention: samples\nsamples: {capacity: 9, ttl_seconds: 9}\n"
    for name in ("clinic", "clinic.yaml"):
        (tmp_path / name).write_text(ours)
    monkeypatch.chdir(tmp_path)
    assert load_policy("clinic") == shipped
    assert Settings.read({"privacy": {"policy": "clinic"}}).privacy.policy == "clinic"
    given = Settings.read({"privacy": {"policy": "./clinic"}}).privacy.policy  # a Path would drop the ./
    assert given is not None
    assert load_policy(given).retention is Retention.SAMPLES
    with pytest.raises(InvalidSetting, match=r"none of clinic, lab, vault; .* \./clinic\.yaml"):
        load_policy("clinic.yaml")


def test_the_digest_follows_the_content_not_the_spelling(tmp_path: Path) -> None:
    first = load_policy(write(tmp_path, "name: x\nretention: nothing\n")).digest
    assert load_policy(write(tmp_path, "# a comment\nretention: nothing\nname: x\n")).digest == first
    assert load_policy(write(tmp_path, "name: x\nretention: statistics\n")).digest != first


def test_of_the_shipped_policies_only_lab_keeps_the_text_of_headers() -> None:
    kept = {name: load_policy(name).header_text for name in ("lab", "clinic", "vault")}
    assert kept == {"lab": True, "clinic": False, "vault": False}


def test_a_policy_that_keeps_no_text_has_the_digest_that_older_receipts_name() -> None:
    assert load_policy("clinic").digest == "5f8f0a7d595dfe48b2016e7f2535feb9400ae7cf3b1cfec7b772a96f9734368a"
