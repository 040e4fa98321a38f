"""``lethe run`` with a learner that diverges: it is reported, and a restart continues before it."""

import json
from pathlib import Path

import numpy as np
import pytest

from lethe.checkpointing.checkpoint import read_checkpoint, read_samples
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.observability.result import RunResult
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.probeset import ProbeSet, save_probe
from lethe.wire import Sample, encode
from tests.support.brokers import StreamBroker
from tests.support.commands import Lethe
from tests.support.ledgers import passed_audit
from tests.support.services import service
from tests.support.streams import send

SAMPLES, SIDE = 1280, 8


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(0)
    y_N = drawn.integers(0, 4, count)
    x_NCHW = drawn.integers(0, 100, (count, 1, SIDE, SIDE), np.uint8)
    x_NCHW[np.arange(count), 0, y_N, y_N] = 255
    return x_NCHW, y_N


@pytest.mark.parametrize("broker", [pytest.param("embedded", marks=pytest.mark.long), "kafka"], indirect=True)
def test_a_diverged_run_can_be_rolled_back_and_continues_with_a_smaller_step(
    broker: StreamBroker, topic: str, tmp_path: Path, lethe: Lethe
) -> None:
    broker.create_topic(topic, 1)
    x_NCHW, y_N = images(SAMPLES)
    send(
        broker,
        topic,
        [
            (0, *encode(Sample(np.ascontiguousarray(x), int(y), "a")))
            for x, y in zip(x_NCHW, y_N, strict=True)
        ],
    )
    save_probe(ProbeSet("a", x_NCHW[:50], y_N[:50], "made up", "none needed"), tmp_path / "probes", 0)
    state = tmp_path / "state"

    def settings(lr: float) -> dict[str, object]:
        options = {"backbone": "mlp", "optimizer": "SGD", "lr": lr, "optimizer_options": {"momentum": 0.9}}
        return {
            "SAMPLE__HEIGHT": SIDE,
            "SAMPLE__WIDTH": SIDE,
            "SAMPLE__CLASSES": 4,
            "LEARNER__OPTIONS": json.dumps(options),
            "LEARNER__THREADS": 1,
            "EVALUATION__PROBES": tmp_path / "probes",
            "CHECKPOINT__FOLDER": state,
            "CHECKPOINT__EVERY_SAMPLES": 64,
            "CHECKPOINT__KEEP": 30,
            "STREAM__STOP_AFTER": SAMPLES,
        }

    held: list[bytes] = []
    for start in range(3):
        with service(broker, topic, tmp_path, **settings(lr=300.0)) as run:
            assert run.process.wait(90) == 2
            last = run.log.splitlines()[-1]
            assert last.startswith("lethe: the learner diverged: ")
            assert f"lethe checkpoint rollback {state} --option NAME=VALUE" in last
            assert "Traceback" not in run.log
            result = RunResult.model_validate_json((run.report / "run.json").read_text())
            assert result.failure is not None
            assert (run.report / "report.html").exists()
        files = checkpoint_files(state)
        assert len({read_samples(path) for path in files}) == len(files) > 1
        contents = [path.read_bytes() for path in files]
        assert start == 0 or contents == held
        held = contents
        for path in files:
            tensors = read_checkpoint(path).learner.tensors.values()
            assert all(bool(tensor.isfinite().all()) for tensor in tensors)
    oldest = read_samples(checkpoint_files(state)[0])  # the newest ones are finite, and long of no use
    with service(broker, topic, tmp_path, **settings(lr=0.01)) as run:
        assert run.process.wait(90) == 2
        assert "to continue with other options, run `lethe checkpoint rollback`" in run.log
    done = lethe("checkpoint", "rollback", str(state), "--to", str(oldest), "--option", "lr=0.01")
    assert done.code == 0
    passed_audit(state)
    with service(broker, topic, tmp_path, **settings(lr=0.01)) as run:
        assert run.process.wait(90) == 0, run.log
        result = RunResult.model_validate_json((run.report / "run.json").read_text())
    assert (result.failure, result.samples.learned) == (None, SAMPLES)
    entries = list(read_entries(state / LEDGER))
    assert [entry.receipt.kind for entry in entries if entry.receipt.kind != "batch"] == ["rollback"]
    passed_audit(state)
