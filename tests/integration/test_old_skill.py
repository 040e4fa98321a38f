"""What the runbook says of LetheProbeForgotten: an old skill answers again, from a checkpoint of before."""

import shutil
from pathlib import Path

import httpx
import pytest

from service.checkpoint import read_checkpoint
from service.state_folder import checkpoint_files
from service.stream.embedded import EmbeddedBroker
from service.wire import PNG, encode
from tests.brokers import of_embedded
from tests.feeds import LAYOUT, segment
from tests.services import service
from tests.streams import send
from tests.waiting import until

pytestmark = [pytest.mark.needs("embedded")]

EACH = 320
"""Samples of each of two segments; a checkpoint is taken at the switch, and every 64 samples."""


def test_an_old_skill_answers_again_from_a_copy_without_the_newer_checkpoints(
    embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    broker = of_embedded(embedded_broker)
    broker.create_topic(topic, 1)
    samples = [*segment("a", EACH), *segment("b", EACH, seed=1)]
    send(broker, topic, [(0, *encode(sample)) for sample in samples])
    settings = {f"SAMPLE__{name.upper()}": value for name, value in LAYOUT.model_dump().items()}
    state, copy = tmp_path / "state", tmp_path / "copy"
    keeping = {"CHECKPOINT__FOLDER": state, "CHECKPOINT__KEEP": 100, "CHECKPOINT__EVERY_SAMPLES": 64}
    with service(broker, topic, tmp_path, **settings, **keeping) as run:
        until(lambda: run.state["samples"]["learned"] == 2 * EACH, "both are learned")
        assert run.stop() < 10
    shutil.copytree(state, copy)
    for path in checkpoint_files(copy):
        if read_checkpoint(path).samples > EACH:
            path.unlink()
    again = {"CHECKPOINT__FOLDER": copy, "STREAM__STOP_AFTER": 1, "SERVE__KEEP": True}
    with service(broker, topic, tmp_path / "copy", **settings, **again) as run:
        until(lambda: "serving until" in run.log, "it rests")
        answer = httpx.post(
            f"{run.address}/predict", content=encode(samples[0], PNG)[0], headers={"content-type": PNG}
        )
        assert answer.json()["model"]["samples"] == run.state["samples"]["learned"] == EACH
