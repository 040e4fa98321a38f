"""What several ranks cannot do together is refused before anything starts, by name and with the reason."""

from typing import Any

import pytest

from lethe.errors import InvalidSetting
from lethe.learners.capabilities import Capability
from lethe.learners.registry import LEARNERS
from lethe.runtime.ranks.environment import one_host, variables
from lethe.runtime.ranks.supported import check_ranks
from lethe.runtime.run import run_service
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
        ({"privacy": {"policy": "clinic"}}, "privacy.policy clinic"),
        ({"stream": {"world": 2}}, "stream.world 2"),
        ({"sample": {"features": 5}}, "several ranks need the location and spread of vectors"),
        ({"labels": {"topic": "late"}}, "labels.topic late"),
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


def test_ranks_on_several_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**variables(0, 4, "store"), "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match="4 ranks were started, 2 of them on this machine"):
        one_host()


def test_the_command_refuses_before_it_starts_a_rank(lethe: Lethe) -> None:
    refused = lethe.refuses("run", "--ranks", "2", "--learner", "replay", "--device", "cpu")
    assert "learner.name replay: several ranks cannot learn it together" in refused


def test_the_command_refuses_a_network_that_ranks_cannot_train_before_it_starts_one(lethe: Lethe) -> None:
    network = "tests.support.networks:batch_norm"
    words = ("--learner", "finetune", "--device", "cpu", "--option", f"backbone={network}")
    refused = lethe.refuses("run", "--ranks", "2", *words)
    assert f"backbone: {network}: several ranks cannot train it together: its batch norms" in refused
    assert "rank 0" not in refused
