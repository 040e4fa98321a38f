"""Records without a label are predicted and discarded, each once, and every receipt accounts for them."""

import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from lethe.experiments.chaos.outcome import Outcome
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.privacy.policy import load_policy
from tests.support.faults.checkpoint_steps import KillAt
from tests.support.faults.services import Stage, running
from tests.support.faults.topics import Fill, Outgoing, records
from tests.support.ledgers import passed_audit
from tests.support.predictions import predictions_in
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

COUNT: Final = 1200


def is_labelled(number: int) -> bool:
    return number % 3 != 0 and not 400 <= number < 600


LABELLED: Final = sum(map(is_labelled, range(COUNT)))


@pytest.fixture(scope="module")
def partly(fill: Fill) -> Stage:
    """A topic of which a third has no label, and a stretch of several batches has none at all."""
    made: list[Outgoing] = []
    for number, (value, headers) in enumerate(records("a", COUNT, 5)):
        made.append((value, [header for header in headers if header[0] != "label" or is_labelled(number)]))
    return fill("partly", made)


def settings(stage: Stage, learner: str, folder: Path, **more: Any) -> Any:
    labels, privacy, batch = {"unlabelled": "predict"}, {"policy": "lab"}, {"size": 64}
    return stage.settings(learner, folder, labels=labels, privacy=privacy, batch=batch, **more)


@pytest.mark.parametrize("learner", ["finetune", "ridge"])
def test_they_are_predicted_once_and_discarded_and_the_ledger_agrees(
    learner: str, partly: Stage, topic: str, tmp_path: Path
) -> None:
    predictions = f"{topic}.predictions"
    state = tmp_path / "state"
    given = settings(partly, learner, state, stream={"predictions_topic": predictions}, serve={"keep": True})
    for left in (3, 1):
        with running(given, KillAt("taken", left=left)) as service:
            assert service.status() == -signal.SIGKILL
    with running(given) as service:
        service.has_learned(LABELLED)
        until(lambda: service.count("unlabelled") == COUNT - LABELLED, "the others are predicted")
        samples = service.state()["samples"]
        metrics = httpx.get(f"{service.address}/metrics").text
        service.send(signal.SIGTERM)
        assert service.status() == 0
    assert (samples["received"], samples["learned"]) == (COUNT, LABELLED)
    assert samples["dead_lettered"] == 0
    exported = re.search(r'lethe_run_samples{outcome="unlabelled"} (\S+)', metrics)
    assert exported is not None
    assert float(exported[1]) == COUNT - LABELLED
    found = predictions_in(partly.bootstrap_servers, predictions)
    assert len(found) == len({(made["partition"], made["offset"]) for made in found}) == COUNT
    for partition in (0, 1):
        offsets = [made["offset"] for made in found if made["partition"] == partition]
        assert offsets == sorted(offsets)
    entries = list(read_entries(state / LEDGER))
    assert (
        sum(entry.receipt.unlabelled for entry in entries if entry.receipt.kind == "batch")
        == COUNT - LABELLED
    )
    assert any(entry.receipt.unlabelled and not entry.receipt.learned for entry in entries)
    assert passed_audit(state, load_policy("lab")).learned == LABELLED


def test_a_killed_run_ends_with_the_same_bits(partly: Stage, tmp_path: Path) -> None:
    found = []
    for name, kills in (("alone", 0), ("killed", 2)):
        given = settings(partly, "finetune", tmp_path / name / "state", evaluation={"estimate": True})
        for _ in range(kills):
            with running(given, KillAt("renamed", left=2)) as service:
                assert service.status() == -signal.SIGKILL
        with running(given) as service:
            assert service.status() == 0
        found.append(Outcome.of(tmp_path / name / "state"))
    assert found[0] == found[1]
    assert found[0].learned == LABELLED


def test_by_default_they_are_dead_lettered(partly: Stage, topic: str, tmp_path: Path) -> None:
    stage = replace(partly, total=200)
    given = stage.settings(
        "finetune", tmp_path / "state", stream={"dead_letter_topic": f"{topic}.dead-letters"}
    )
    with running(given) as service:
        assert service.status() == 0
        assert "records without a label wait" not in service.log
    labelled = sum(map(is_labelled, range(200)))
    found = Outcome.of(tmp_path / "state")
    assert (found.learned, found.dead) == (labelled, 200 - labelled)
