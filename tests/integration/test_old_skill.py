"""The runbook on LetheProbeForgotten: a checkpoint from before the switch serves the old skill again."""

import shutil
from pathlib import Path

import httpx
import pytest

from lethe.checkpointing.checkpoint import read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.stream.embedded_broker import EmbeddedBroker
from lethe.wire import PNG, encode
from tests.support.brokers import of_embedded
from tests.support.feeds import LAYOUT, segment
from tests.support.services import service
from tests.support.streams import send
from tests.support.waiting import until

pytestmark = [pytest.mark.needs("embedded")]

EACH = 320
"""Samples of each of two segments; a checkpoint is taken at the switch, and every 64 samples."""


def test_a_copy_without_the_newer_checkpoints_serves_the_old_skill(
    embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    broker = of_embedded(embedded_broker)
    broker.create_topic(topic, 1)
    samples = [*segment("a", EACH), *segment("b", EACH, seed=1)]
    send(broker, topic, [(0, *encode(sample)) for sample in samples])
    settings = {
        f"SAMPLE__{name.upper()}": value for name, value in LAYOUT.model_dump(exclude_none=True).items()
    }
    state, copy = tmp_path / "state", tmp_path / "copy"
    keeping = {"CHECKPOINT__FOLDER": state, "CHECKPOINT__KEEP": 100, "CHECKPOINT__EVERY_SAMPLES": 64}
    with service(broker, topic, tmp_path, **settings, **keeping) as run:
        until(lambda: run.state["samples"]["learned"] == 2 * EACH, "both are learned")
        run.stop()
    shutil.copytree(state, copy)
    for path in checkpoint_files(copy):
        if read_checkpoint(path).samples > EACH:
            path.unlink()
    again = {"CHECKPOINT__FOLDER": copy, "STREAM__STOP_AFTER": 1, "SERVE__KEEP": True}
    (tmp_path / "again").mkdir()
    with service(broker, topic, tmp_path / "again", **settings, **again) as run:
        until(lambda: "serving until" in run.log, "it rests")
        answer = httpx.post(
            f"{run.address}/predict",
            content=encode(samples[0], PNG)[0],
            headers={"content-type": PNG},
            timeout=30,
        )
        assert answer.json()["model"]["samples"] == run.state["samples"]["learned"] == EACH
