"""Classes by name, some of which appear midway: numbered alike however often the service is killed."""

import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.chaos.kill_loop import run_with_kills
from lethe.experiments.chaos.kill_plan import plan_kills
from lethe.experiments.chaos.outcome import Outcome
from lethe.probeset import ProbeSet, save_probe
from lethe.wire import Sample, encode
from tests.support.faults.checkpoint_steps import HELD_AT, Held, KillAt
from tests.support.faults.services import Forked, Stage, running
from tests.support.faults.topics import Fill, Outgoing, images
from tests.support.predictions import predictions_in
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

NAMES: Final = ("newt", "owl", "pike", "quail", "rook", "seal", "toad", "urial", "viper", "wolf")
"""Of the labels of `images`, in the order of the alphabet, in which they do not appear."""
LATE: Final = 5
"""Labels from this one on appear in the second half."""
COUNT: Final = 1600


def named(seed: int, count: int, first: int, last: int) -> list[Outgoing]:
    """Records of the classes ``first`` to ``last`` - 1, without a number in them."""
    x_NCHW, y_N = images(4 * count, seed)
    chosen = [i for i, y in enumerate(y_N) if first <= y < last][:count]
    assert len(chosen) == count
    return [encode(Sample(x_NCHW[i], 0, "a" if first == 0 else "b", NAMES[y_N[i]])) for i in chosen]


def all_evaluated(by_class: list[float | None]) -> bool:
    return len(by_class) >= len(NAMES) and None not in by_class


@pytest.fixture(scope="module")
def zoo(fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A topic of named classes, of which a half appears midway, and a probe with all of them."""
    records = [*named(1, COUNT // 2, 0, LATE), *named(2, COUNT // 2, LATE, 10)]
    records[700] = (records[700][0], [*records[700][1][:1], ("label", b"\xff"), *records[700][1][2:]])
    probes = tmp_path_factory.mktemp("probes")
    x_NCHW, y_N = images(60, seed=90)
    save_probe(ProbeSet("a", x_NCHW, y_N, "made up", "none needed", NAMES), probes, 0)
    return replace(fill("zoo", records), probes=probes)


def settings(zoo: Stage, learner: str, folder: Path, **more: Any) -> Any:
    return zoo.settings(learner, folder, labels={"max_classes": 12}, **more)


@pytest.fixture(scope="module")
def undisturbed(zoo: Stage, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    found = {}
    for learner in ("finetune", "ridge"):
        folder = tmp_path_factory.mktemp(learner) / "state"
        with running(settings(zoo, learner, folder)) as service:
            assert service.status() == 0, service.log
        found[learner] = Outcome.of(folder)
        assert (found[learner].learned, found[learner].dead) == (COUNT - 1, 1)
    return found


@pytest.mark.parametrize("learner", ["finetune", "ridge"])
def test_classes_have_the_same_numbers_after_kills(
    learner: str, zoo: Stage, undisturbed: dict[str, Outcome], tmp_path: Path
) -> None:
    given = settings(zoo, learner, tmp_path / "state")
    for left in (6, 2, 1):  # before the new classes, just before them, and right after the restart
        with running(given, KillAt("renamed", left=left)) as service:
            assert service.status() == -signal.SIGKILL
    with running(given) as service:
        assert service.status() == 0
    assert Outcome.of(tmp_path / "state") == undisturbed[learner]
    names = read_checkpoint(checkpoint_files(tmp_path / "state")[-1]).position.classes
    assert set(names[:LATE]) == set(NAMES[:LATE])
    assert set(names) == set(NAMES)
    assert list(names) != sorted(names), "they are in order of appearance"


@pytest.mark.long
def test_killed_at_random_instants(zoo: Stage, undisturbed: dict[str, Outcome], tmp_path: Path) -> None:
    given = settings(zoo, "finetune", tmp_path / "state")
    run_with_kills(lambda: Forked(given), plan_kills(15, zoo.total, 0.6, seed=11))
    assert Outcome.of(tmp_path / "state") == undisturbed["finetune"]


def test_new_classes_appear_everywhere_by_name(zoo: Stage, topic: str, tmp_path: Path) -> None:
    predictions = f"{topic}.predictions"
    given = settings(
        zoo,
        "ridge",
        tmp_path / "state",
        stream={"predictions_topic": predictions},
        evaluation={"every": 200},
        serve={"keep": True},
    )
    with running(given, Held(tmp_path / "go-on")) as service:
        service.has_learned(HELD_AT)
        early = service.state()
        (tmp_path / "go-on").touch()
        service.has_learned(COUNT - 1)
        until(lambda: all_evaluated(service.state()["by_class"]["a"]), "the new classes are evaluated")
        late, metrics = service.state(), httpx.get(f"{service.address}/metrics").text
        answer = httpx.post(
            f"{service.address}/predict",
            content=bytes(64),
            headers={"content-type": "application/octet-stream", "dtype": "uint8", "shape": "1,8,8"},
        ).json()["predictions"][0]
        service.send(signal.SIGTERM)
        assert service.status() == 0
    assert set(early["class_names"]) == set(NAMES[:LATE])
    assert late["class_names"][:LATE] == early["class_names"]
    assert set(late["class_names"]) == set(NAMES)
    assert len(late["by_class"]["a"]) == 10, "and not the 12 that there may be"
    shown = re.findall(r'lethe_probe_class_accuracy_ratio{class="(\w+)",label="\d+",probe="a"}', metrics)
    assert set(shown) == set(NAMES)
    assert "lethe_classes_named 10.0" in metrics
    assert 'class="10"' not in metrics
    assert answer["name"] == late["class_names"][answer["label"]]
    assert len(answer["probabilities"]) == 10
    found = predictions_in(zoo.bootstrap_servers, predictions)
    assert len(found) == COUNT - 1
    named_by = {each["name"] for each in found if each["model"]["samples"] >= 64}
    assert named_by <= set(NAMES)
    assert all(each["class"] is None for each in found if each["model"]["samples"] == 0)
    assert max(len(each["probabilities"]) for each in found) == 10
