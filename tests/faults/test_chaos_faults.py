"""``lethe chaos --faults all`` on Apache Kafka: with every fault, a service learns each sample once."""

import json

import pytest
from typer.testing import CliRunner

from deploy.kafka.kraft import KafkaNode
from lethe.cli.main import app

pytestmark = [pytest.mark.needs("kafka"), pytest.mark.needs("datasets")]


def chaos(node: KafkaNode, kills: int, samples: int, *learners: str) -> None:
    words = ["chaos", "--faults", "all", "--kills", str(kills), "--samples", str(samples), "--json"]
    words += ["--broker", node.bootstrap_servers]
    done = CliRunner().invoke(app, [*words, *[word for name in learners for word in ("--learner", name)]])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["faults"] == ["malformed", "transactions", "member", "recreation"]
    for name in learners:
        verdict = document["learners"][name]
        assert (verdict["kills"], verdict["lost"], verdict["twice"]) == (kills, 0, 0)
        assert verdict["hashes_equal"]
        assert verdict["recreated"] == {"told": True, "lost": 0, "twice": 0, "hash_equal": True}


def test_every_kind_of_fault_at_once(kafka_node: KafkaNode) -> None:
    chaos(kafka_node, 2, 600, "ncm")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_five_kills_under_every_kind_of_fault(kafka_node: KafkaNode) -> None:
    chaos(kafka_node, 25, 5000, "finetune", "ridge")
