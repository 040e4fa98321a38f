"""A policy with a time to live: samples are deleted from memory and disk, even if the service is killed."""

import json
import signal
from pathlib import Path

import pytest
import yaml

from lethe.checkpointing.state_folder import checkpoint_files
from lethe.experiments.bench.memory_search import Needles, find_in_files
from lethe.privacy.policy import load_policy
from lethe.stream.embedded_broker import EmbeddedBroker
from tests.support.brokers import of_embedded
from tests.support.ledgers import passed_audit
from tests.support.services import Service, service
from tests.support.streams import LAYOUT, sample, send, sent
from tests.support.waiting import until

SECONDS = 20.0
POLICY = {"name": "brief", "retention": "samples", "samples": {"capacity": 50, "ttl_seconds": SECONDS}}

pytestmark = [pytest.mark.needs("embedded")]


def metric(run: Service, name: str) -> float:
    """The value of a metric; labels are part of ``name``."""
    lines = run.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def test_samples_expire_in_time_although_the_service_is_killed(
    embedded_broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    broker = of_embedded(embedded_broker)
    for name in (topic, f"{topic}.dead-letters"):
        broker.create_topic(name, 1)
    policy, state = tmp_path / "brief.yaml", tmp_path / "state"
    policy.write_text(yaml.safe_dump(POLICY))
    settings = {"PRIVACY__POLICY": policy, "CHECKPOINT__FOLDER": state, "BATCH__SIZE": 10}
    settings |= {
        f"SAMPLE__{name.upper()}": value for name, value in LAYOUT.model_dump(exclude_none=True).items()
    }
    settings |= {
        "LEARNER__NAME": "replay",
        "LEARNER__OPTIONS": json.dumps({"backbone": "mlp", "capacity": 50}),
    }
    needle = Needles({"ten": b"".join(sample(number).pixels.tobytes() for number in range(20, 30))})

    send(broker, topic, sent(range(50)))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with service(broker, topic, first, **settings) as run:
        until(lambda: run.state["samples"]["learned"] == 50, "all is learned")
        until(lambda: run.state["samples"]["kept"] == 50, "the learner says how many it keeps")
        until(
            lambda: set(find_in_files(state, needle)) & set(checkpoint_files(state)),
            "a checkpoint, whole and renamed, holds the samples",
        )
        run.process.send(signal.SIGKILL)
    with service(broker, topic, second, **settings) as run:
        send(broker, topic, sent(range(50, 60)))
        until(lambda: metric(run, 'lethe_run_samples{outcome="learned"}') == 60, "it goes on")
        assert 10 <= metric(run, "lethe_samples_learned_total") < 60, "what this process learned"
        until(lambda: metric(run, "lethe_samples_kept_age_seconds") == 0, "everything kept is deleted")
        until(lambda: run.state["samples"]["kept"] == 0, "the state says so")
        until(lambda: find_in_files(state, needle) == [], "no file holds them")
        assert run.state["standing"]["violations"] == {}
        run.stop()
    assert passed_audit(state, load_policy(str(policy))).learned == 60
