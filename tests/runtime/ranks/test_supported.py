"""What several ranks cannot do together is refused before anything starts, by name and with the reason."""

from typing import Any

import pytest

from lethe.errors import InvalidSetting
from lethe.learners.capabilities import Capability
from lethe.learners.registry import LEARNERS
from lethe.runtime.ranks.environment import several_hosts, variables
from lethe.runtime.ranks.supported import check_hosts, check_ranks
from lethe.runtime.run import run_service
from lethe.runtime.run_rank import run_rank
from lethe.settings import Settings
from tests.support.commands import Lethe


def settings(**sections: dict[str, Any]) -> Settings:
    return Settings.read({"learner": {"name": "ridge", "device": "cpu"}, **sections})


@pytest.mark.parametrize("learner", ["ridge", "finetune"])
def test_a_learner_of_sums_or_of_steps_is_accepted(learner: str) -> None:
    check_ranks(settings(learner={"name": learner, "device": "cpu"}))


@pytest.mark.parametrize(
    "learner", [name for name, kind in LEARNERS.items() if Capability.POOLS not in kind.capabilities]
)
def test_any_other_learner_is_refused_with_its_reason(learner: str) -> None:
    with pytest.raises(
        InvalidSetting, match=f"learner.name {learner.replace('+', '[+]')}: several ranks"
    ) as refused:
        check_ranks(settings(learner={"name": learner, "device": "cpu"}))
    assert str(refused.value).endswith(LEARNERS[learner].why_not(Capability.POOLS))


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"stream": {"world": 2}}, "stream.world 2"),
        ({"sample": {"features": 5}}, "several ranks need the location and spread of vectors"),
        ({"labels": {"unlabelled": "predict"}}, "labels.unlabelled predict"),
        ({"stream": {"predictions_topic": "guesses"}}, "stream.predictions_topic guesses"),
    ],
)
def test_settings_that_ranks_do_not_keep_to_are_refused(sections: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        check_ranks(settings(**sections))


@pytest.mark.parametrize(
    ("learner", "why"),
    [("ridge", "its sums are added up exactly"), ("ewc", "what it keeps of earlier weights")],
)
def test_learners_that_cannot_take_steps_apart_are_refused(learner: str, why: str) -> None:
    with pytest.raises(InvalidSetting, match=f"run.average_every 4: ranks cannot learn {learner} .*: {why}"):
        check_ranks(settings(learner={"name": learner, "device": "cpu"}, run={"average_every": 4}))
    check_ranks(settings(learner={"name": "finetune", "device": "cpu"}, run={"average_every": 4}))


def test_a_service_alone_has_no_weights_to_average() -> None:
    with pytest.raises(InvalidSetting, match=r"run.average_every 4: there are no ranks"):
        run_service(settings(run={"average_every": 4}))


def test_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(InvalidSetting, match=r"learner.device auto.*use cpu"):
        check_ranks(Settings.read({"learner": {"name": "ridge"}}))


CLINIC: dict[str, dict[str, Any]] = {"privacy": {"policy": "clinic"}, "batch": {"linger": 0.5}}


def test_a_policy_is_accepted_with_what_ranks_can_keep_to() -> None:
    check_ranks(settings(**CLINIC))
    check_ranks(settings(privacy={"policy": "lab"}, learner={"name": "experts", "device": "cpu"}))


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"batch": {"linger": 0}}, "batch.linger 0: under residency_seconds 5 of policy clinic"),
        ({"learner": {"name": "experts", "device": "cpu"}}, "learner.name experts: .* a thumbnail of each"),
    ],
)
def test_what_a_policy_forbids_ranks_is_refused(sections: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidSetting, match=named):
        check_ranks(settings(**CLINIC | sections))


def test_a_policy_on_several_machines_needs_a_network_that_is_declared_trusted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {**variables(0, 4, "store"), "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert several_hosts()
    with pytest.raises(InvalidSetting, match=r"privacy.policy clinic: .*with run.cluster_trusted you"):
        run_rank(settings(**CLINIC))
    check_hosts(settings(**CLINIC, run={"cluster_trusted": True}))
    check_hosts(settings())
    assert caplog.text.count("neither encrypted nor protected by a password") == 2


def test_the_command_refuses_before_it_starts_a_rank(lethe: Lethe) -> None:
    refused = lethe.refuses("run", "--ranks", "2", "--learner", "replay", "--device", "cpu")
    assert "learner.name replay: several ranks cannot learn it together" in refused


def test_the_command_refuses_a_network_that_ranks_cannot_train_before_it_starts_one(lethe: Lethe) -> None:
    network = "tests.support.networks:batch_norm"
    words = ("--learner", "finetune", "--device", "cpu", "--option", f"backbone={network}")
    refused = lethe.refuses("run", "--ranks", "2", *words)
    assert f"backbone: {network}: several ranks cannot train it together: its batch norms" in refused
    assert "rank 0" not in refused
