"""Differential privacy when a broker loses records or the service is killed."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from kafka import KafkaAdminClient, TopicPartition

from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.chaos.outcome import Outcome
from lethe.settings import Settings
from tests.support.faults.services import FAILED, SIZE, Forked, Stage, running
from tests.support.faults.topics import PARTITIONS, Fill, images, records
from tests.support.waiting import until

pytestmark = pytest.mark.needs("kafka")

BATCH = 64
SAMPLES = 6 * BATCH


@pytest.fixture
def private_stage(fill: Fill, topic: str) -> Stage:
    return fill(topic, records("a", SAMPLES, 1))


def settings(stage: Stage, folder: Path, options: dict[str, Any] | None = None, **more: Any) -> Settings:
    """Settings of a private learner under a policy with a budget; checkpoints are rare."""
    folder.mkdir(parents=True, exist_ok=True)
    policy = folder / "policy.yaml"
    budget = {"epsilon": 8, "delta": 0.00001}
    policy.write_text(yaml.safe_dump({"name": "safe", "retention": "nothing", "budget": budget}))
    given: dict[str, Any] = {
        "privacy": {"policy": str(policy)},
        "batch": {"size": BATCH},
        "checkpoint": {"every_samples": None, "every_seconds": 600},
        "serve": {"keep": True},
    }
    for section, values in more.items():
        given.setdefault(section, {}).update(values)
    made = stage.settings("dp-finetune", folder / "state", **given)
    return made.model_copy(update={"learner": made.learner.model_copy(update={"options": options or {}})})


def predicted(service: Forked) -> tuple[int, np.ndarray]:
    """The number of samples that the answering model has learned, and its answer."""
    x_NCHW, _ = images(20, 99)
    headers = {
        "content-type": "application/octet-stream",
        "dtype": "uint8",
        "shape": f"20,1,{SIZE},{SIZE}",
    }
    asked = httpx.post(f"{service.address}/predict", content=x_NCHW.tobytes(), headers=headers, timeout=30)
    answer = asked.raise_for_status().json()
    rows = [one["probabilities"] for one in answer["predictions"]]
    return answer["model"]["samples"], np.array(rows)


def delete_records(stage: Stage, offset: int) -> None:
    with KafkaAdminClient(bootstrap_servers=stage.bootstrap_servers) as admin:
        admin.delete_records({TopicPartition(stage.topic, p): offset for p in range(PARTITIONS)})


def test_nothing_of_a_batch_is_published_that_a_crash_may_replace_by_another_batch(
    private_stage: Stage, tmp_path: Path
) -> None:
    stage, state = private_stage, tmp_path / "run" / "state"
    given = settings(stage, tmp_path / "run", stream={"stop_after": None})
    with running(given) as service:
        service.has_learned(SAMPLES)
        time.sleep(2.5)  # more than a copy of a learner is old before it is renewed
        samples, p_NK = predicted(service)
        assert samples == 0
        assert np.ptp(p_NK) < 1e-6, "an untrained learner holds all classes for alike"
        service.kill()
    kept = [read_checkpoint(path) for path in checkpoint_files(state)]
    assert {checkpoint.samples for checkpoint in kept} == {0}
    assert all("key" not in checkpoint.learner.tensors for checkpoint in kept)

    delete_records(stage, BATCH // 4)  # half of the first batch
    with running(given) as service:
        assert service.status() == FAILED
        assert "--accept-loss" in service.log
    given = settings(stage, tmp_path / "run", stream={"stop_after": None, "accept_loss": True})
    left = SAMPLES - BATCH // 2
    with running(given) as service:
        service.has_learned(left - left % BATCH)
        reported = service.state()
        assert reported["samples"]["lost"] == BATCH // 2
        assert reported["privacy"]["epsilon"] == pytest.approx(8.0), "each record has a part in one release"
        assert not reported["privacy"]["spent"]
        service.send(signal.SIGTERM)
        assert service.status() == 0
    newest = read_checkpoint(checkpoint_files(state)[-1])
    assert newest.samples == left - left % BATCH
    assert newest.learner.values["repeats"] == 0


def test_a_lost_release_costs_its_records_again_which_exceeds_the_budget(
    private_stage: Stage, tmp_path: Path
) -> None:
    stage, state = private_stage, tmp_path / "run" / "state"
    given = settings(stage, tmp_path / "run", checkpoint={"every_samples": BATCH, "keep": 9})
    with running(given) as service:
        service.has_learned(SAMPLES)
        until(lambda: predicted(service)[0] == SAMPLES, "the last model answers")
        service.send(signal.SIGTERM)
        assert service.status() == 0
    for path in checkpoint_files(state):
        if read_checkpoint(path).samples > BATCH:
            path.write_bytes(b"torn")
    with running(given) as service:
        until(lambda: "learning ends" in service.log, "it ends")
        assert "5 learned batches are released a second time" in service.log
        reported = service.state()
        assert reported["samples"]["learned"] == BATCH
        assert reported["privacy"]["epsilon"] == pytest.approx(8.0)
        assert reported["privacy"]["spent"]
        service.send(signal.SIGTERM)
        assert service.status() == 0
    again = settings(
        stage,
        tmp_path / "reserve",
        {"noise_multiplier": 1.0},
        checkpoint={"every_samples": BATCH, "keep": 9},
        serve={"keep": False},
        run={"report": tmp_path / "report"},
    )
    with running(again) as service:
        assert service.status() == 0
    once = read_run(again)["epsilon"]
    for path in checkpoint_files(tmp_path / "reserve" / "state"):
        if read_checkpoint(path).samples > BATCH:
            path.write_bytes(b"torn")
    with running(again) as service:
        assert service.status() == 0
    assert Outcome.of(tmp_path / "reserve" / "state").learned == SAMPLES
    assert once < read_run(again)["epsilon"] < 8


def read_run(given: Settings) -> dict[str, Any]:
    assert given.run.report is not None
    account: dict[str, Any] = json.loads((given.run.report / "run.json").read_text())["privacy"]
    return account


def test_under_a_budget_nothing_exact_is_published_about_the_stream(
    private_stage: Stage, tmp_path: Path
) -> None:
    given = settings(private_stage, tmp_path / "run", run={"report": tmp_path / "report"})
    with running(given) as service:
        service.has_learned(SAMPLES)
        until(lambda: (tmp_path / "report" / "run.json").exists(), "the report is there")
        state, metrics = service.state(), httpx.get(f"{service.address}/metrics", timeout=30).text
        service.send(signal.SIGTERM)
        assert service.status() == 0
    assert state["scores"]["prequential_accuracy"] is None
    assert state["boundaries"] == {}
    assert "lethe_prequential_accuracy_ratio{" not in metrics
    assert "lethe_batch_loss NaN" in metrics
    assert "lethe_privacy_epsilon 8" in metrics or "lethe_privacy_epsilon 7.99" in metrics
    run = json.loads((tmp_path / "report" / "run.json").read_text())
    assert run["prequential_accuracy"] is None
    assert run["prequential"] == []
    for path in checkpoint_files(tmp_path / "run" / "state"):
        history = read_checkpoint(path).history
        assert isinstance(history, dict)
        reported = history["prequential"]
        assert isinstance(reported, dict)
        assert (reported["correct"], reported["faded_correct"], reported["withheld"]) == (
            0,
            0.0,
            reported["samples"],
        )


def test_seeded_noise_is_called_a_simulation_everywhere(private_stage: Stage, tmp_path: Path) -> None:
    given = private_stage.settings(
        "dp-finetune", tmp_path / "run" / "state", run={"report": tmp_path / "report"}, serve={"keep": True}
    )
    with running(given) as service:
        service.has_learned(SAMPLES)
        until(lambda: (tmp_path / "report" / "report.html").exists(), "the report is there")
        reported = service.state()["privacy"]
        metrics = httpx.get(f"{service.address}/metrics", timeout=30).text
        assert "nothing is private and ε is simulated" in service.log
        service.send(signal.SIGTERM)
        assert service.status() == 0
    assert reported["simulated"] is True
    assert reported["epsilon"] is None
    assert reported["simulated_epsilon"] == pytest.approx(8.0)
    assert json.loads((tmp_path / "report" / "run.json").read_text())["privacy"] == reported
    assert "simulated: seeded noise gives no privacy" in (tmp_path / "report" / "report.html").read_text()
    assert "lethe_privacy_epsilon" not in metrics
    assert "lethe_privacy_simulated 1.0" in metrics
