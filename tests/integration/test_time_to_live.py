"""A service under a policy that allows samples for a time: they go from memory and disk, killed or not."""

import json
import signal
from pathlib import Path

import pytest
import yaml

from service.bench.search import Needles, found_in_files
from service.privacy.audit import audit
from service.privacy.evidence import newest_mark
from service.privacy.ledger import read_entries
from service.privacy.policy import load_policy
from service.stream.embedded import EmbeddedBroker
from tests.brokers import of_embedded
from tests.services import Service, service
from tests.streams import LAYOUT, sample, send, sent
from tests.waiting import until

SECONDS = 12.0
POLICY = {"name": "brief", "retention": "samples", "samples": {"capacity": 50, "ttl_seconds": SECONDS}}

pytestmark = [pytest.mark.needs("embedded")]


def metric(run: Service, name: str) -> float:
    """What a metric says, its labels being part of the ``name``."""
    lines = run.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def test_kept_samples_are_gone_in_time_from_a_service_that_was_killed_meanwhile(
    embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    broker = of_embedded(embedded_broker)
    for name in (topic, f"{topic}.dead-letters"):
        broker.create_topic(name, 1)
    policy, state = tmp_path / "brief.yaml", tmp_path / "state"
    policy.write_text(yaml.safe_dump(POLICY))
    settings = {"PRIVACY__POLICY": policy, "CHECKPOINT__FOLDER": state, "BATCH__SIZE": 10}
    settings |= {f"SAMPLE__{name.upper()}": value for name, value in LAYOUT.model_dump().items()}
    settings |= {
        "LEARNER__NAME": "replay",
        "LEARNER__OPTIONS": json.dumps({"backbone": "mlp", "capacity": 50}),
    }
    needle = Needles((b"".join(sample(number).pixels.tobytes() for number in range(20, 30)),))

    send(broker, topic, sent(range(50)))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with service(broker, topic, first, **settings) as run:
        until(lambda: run.state["samples"]["learned"] == 50, "all is learned")
        until(lambda: run.state["samples"]["kept"] == 50, "the learner says how many it keeps")
        until(lambda: bool(found_in_files(state, needle)), "a checkpoint holds the samples")
        run.process.send(signal.SIGKILL)
    with service(broker, topic, second, **settings) as run:
        send(broker, topic, sent(range(50, 60)))
        until(lambda: run.state["samples"]["learned"] == 60, "it goes on")
        assert metric(run, 'lethe_run_samples{outcome="learned"}') == 60
        assert 10 <= metric(run, "lethe_samples_learned_total") < 60, "what this process learned"
        until(lambda: metric(run, "lethe_samples_kept_age_seconds") == 0, "all that was kept is let go of")
        assert run.state["samples"]["kept"] == 0
        assert found_in_files(state, needle) == []
        assert run.state["standing"]["violations"] == {}
        run.stop()
    verdict = audit(read_entries(state / "ledger.jsonl"), load_policy(policy), newest_mark(state))
    assert verdict.passed, verdict
    assert verdict.learned == 60
