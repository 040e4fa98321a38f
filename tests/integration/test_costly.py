"""Values that are costly to decode: with a residency of seconds they do not delay others."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest

from lethe.wire import PNG, Layout, Sample, encode
from tests.support.brokers import StreamBroker
from tests.support.pngs import chunk
from tests.support.services import service
from tests.support.streams import send
from tests.support.waiting import until

LAYOUT = Layout(height=8, width=8)
BATCH = 64


@pytest.mark.parametrize("broker", [pytest.param("embedded", marks=pytest.mark.long), "kafka"], indirect=True)
def test_a_batch_of_images_with_much_compressed_metadata_is_learned(
    broker: StreamBroker, topic: str, tmp_path: Path
) -> None:
    broker.create_topic(topic, 1)
    policy = tmp_path / "ward.yaml"
    policy.write_text(json.dumps({"name": "ward", "retention": "statistics", "residency_seconds": 5}))
    comments = chunk(b"zTXt", b"c\0\0" + zlib.compress(bytes(10**6), 9)) * 60  # a megabyte each
    records = []
    for number in range(2 * BATCH):
        pixels = np.random.default_rng(number).integers(0, 256, LAYOUT.shape, np.uint8)
        value, headers = encode(Sample(pixels, number % 10), PNG)
        if number < BATCH:  # embedded brokers hold 5 MB a partition
            value = value[:33] + comments + value[33:]
        records.append((0, value, headers))
    send(broker, topic, records)
    with service(
        broker,
        topic,
        tmp_path,
        STREAM__STOP_AFTER=len(records),
        PRIVACY__POLICY=policy,
        CHECKPOINT__FOLDER=tmp_path / "state",
        SAMPLE__HEIGHT=8,
        SAMPLE__WIDTH=8,
        LEARNER__NAME="ridge",
        BATCH__SIZE=BATCH,
        SERVE__KEEP=True,
    ) as run:
        until(lambda: (run.report / "run.json").exists() or run.process.poll() is not None, "the run ends")
        samples = run.state["samples"]
    assert (samples["learned"], samples["dead_lettered"]) == (len(records), 0), run.log
