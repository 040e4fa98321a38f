"""Text in the headers of records: under a policy that drops it, none is left after learning."""

import hmac
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from lethe.probeset import ProbeSet, save_probe
from lethe.wire import Layout, Sample, encode
from tests.support.brokers import StreamBroker
from tests.support.services import service
from tests.support.streams import Outgoing, letters, send
from tests.support.waiting import until

LAYOUT = Layout(height=8, width=8)
NAME = "Maria Muster, 1954"
"""Personal text that a producer puts into a header."""
SAMPLES = 80


def image(number: int) -> Sample:
    random = np.random.default_rng(number)
    return Sample(random.integers(0, 256, LAYOUT.shape, np.uint8), number % 10)


def records() -> list[Outgoing]:
    """Samples of a probe's segment and of a segment with personal text; then malformed records with it."""
    good = []
    for number in range(SAMPLES):
        value, headers = encode(image(number))
        name = "ward" if number < SAMPLES // 2 else NAME
        good.append((0, value, [*headers, ("segment", name.encode())]))
    value, headers = encode(image(0))
    names = ("label", "content-type", "dtype", "shape", "lethe-version")
    bad = [(0, value, [*headers, (name, NAME.encode())]) for name in names]
    return [*good, *bad, (0, value, [*headers, ("segment", NAME.encode() + b"\xff")])]


def texts(folder: Path) -> Iterable[tuple[Path, bytes]]:
    return ((path, path.read_bytes()) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("keeps", [False, True], ids=["not kept", "kept"])
def test_text_of_headers_is_kept_only_if_the_policy_allows_it(
    broker: StreamBroker, topic: str, tmp_path: Path, keeps: bool
) -> None:
    broker.create_topic(topic, 1)
    if broker.kind == "embedded":
        broker.create_topic(f"{topic}.dead-letters", 1)
    policy, probes, state = tmp_path / "ward.yaml", tmp_path / "probes", tmp_path / "state"
    policy.write_text(json.dumps({"name": "ward", "retention": "statistics", "header_text": keeps}))
    held_out = [image(number) for number in range(100, 110)]
    x_NCHW = np.stack([sample.pixels for sample in held_out])
    save_probe(ProbeSet("ward", x_NCHW, np.arange(10), "made up", "none"), probes, 0)
    sent = records()
    send(broker, topic, sent)
    with service(
        broker,
        topic,
        tmp_path,
        STREAM__STOP_AFTER=len(sent),
        PRIVACY__POLICY=policy,
        EVALUATION__PROBES=probes,
        CHECKPOINT__FOLDER=state,
        SAMPLE__HEIGHT=8,
        SAMPLE__WIDTH=8,
        LEARNER__NAME="ridge",
        BATCH__SIZE=10,
        SERVE__KEEP=True,
    ) as run:
        until(lambda: (run.report / "report.html").exists() or run.process.poll() is not None, "the run ends")
        assert run.state["samples"]["learned"] == SAMPLES, run.log
        assert run.state["samples"]["dead_lettered"] == len(sent) - SAMPLES
        assert run.state["segment"] == (NAME if keeps else "ward")
        served = [run.get(path).content for path in ("/state", "/metrics")]
    everywhere = [*(content for _, content in texts(tmp_path)), *served]
    assert any(NAME.encode() in content for content in everywhere) == keeps
    found = letters(broker, f"{topic}", len(sent) - SAMPLES)
    assert len(found) == len(sent) - SAMPLES
    key = bytes.fromhex((state / "dead-letters.key").read_text())
    value = sent[0][1]
    assert value is not None
    for _, payload, headers in found:
        assert payload is None
        assert set(headers) == {
            *("lethe-topic", "lethe-partition", "lethe-offset", "lethe-reason", "lethe-detail", "lethe-size"),
            "lethe-hmac-sha256",
        }
        assert not any("Maria" in text for text in headers.values())
        assert headers["lethe-hmac-sha256"] == hmac.digest(key, value, "sha256").hex()
