"""A service of `experts` writes into its ledger to which regime each record was added."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.kafka.kraft import KafkaNode
from lethe.checkpointing.checkpoint import load_learner, read_checkpoint
from lethe.checkpointing.state_folder import checkpoint_files
from lethe.learners.analytic.experts import Experts
from lethe.learners.base import LearnerContext
from lethe.privacy.audit.learned_offsets import in_force, regimes_at
from lethe.privacy.audit.ledger import read_entries
from lethe.privacy.audit.receipt_writer import LEDGER
from lethe.privacy.stored_learner import sums_digest
from lethe.privacy.unlearn import forget
from lethe.privacy.verify_sums import verify_topic
from lethe.wire import Sample, encode
from tests.support.brokers import of_kafka
from tests.support.ledgers import passed_audit
from tests.support.services import service
from tests.support.streams import Outgoing, send, settings_of
from tests.support.subjects import LAYOUT, OPTIONS, Assigned, subject

PARTITIONS = 2
MALFORMED: Outgoing = (0, b"no PNG", [("content-type", b"image/png"), ("label", b"1")])


def digest_of(state: Path) -> str:
    learner = Experts(LearnerContext(LAYOUT, options=OPTIONS))
    load_learner(learner, read_checkpoint(checkpoint_files(state)[-1]))
    return sums_digest(learner)


@pytest.mark.needs("kafka")
def test_a_record_is_forgotten_from_its_regime_by_its_place(
    kafka_node: KafkaNode, topic: str, tmp_path: Path
) -> None:
    broker = of_kafka(kafka_node)
    parts = [subject(which, 100 * which, 700) for which in range(2)]
    x_NCHW, y_N = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    records = [
        (number % PARTITIONS, *encode(Sample(x.numpy(), int(y))))
        for number, (x, y) in enumerate(zip(x_NCHW, y_N, strict=True))
    ]
    broker.create_topic(topic, PARTITIONS)
    send(broker, topic, [MALFORMED, *records])  # so the offsets of partition 0 are one ahead
    places = [
        (number % PARTITIONS, number // PARTITIONS + (1 - number % PARTITIONS)) for number in range(1400)
    ]
    state = tmp_path / "state"
    variables = {
        "LEARNER__NAME": "experts",
        "LEARNER__OPTIONS": '{"waves": 60, "refresh_every": 1024}',
        "SAMPLE__HEIGHT": 12,
        "SAMPLE__WIDTH": 12,
        "SAMPLE__CLASSES": 4,
        "BATCH__SIZE": 100,
        "CHECKPOINT__FOLDER": state,
        "STREAM__STOP_AFTER": 1401,
    }
    with service(broker, topic, tmp_path, **variables) as running:
        assert running.process.wait(120) == 0, running.log
    regime_N = torch.tensor(regimes_at(in_force(read_entries(state / LEDGER)), places))
    assert set(regime_N.tolist()) == {0, 1}
    everything = Assigned(2)
    everything.learn_as(x_NCHW, y_N, regime_N)
    assert digest_of(state) == sums_digest(everything)
    verdict = verify_topic(state, settings_of(broker, topic))
    assert (verdict.equal, verdict.samples) == (True, 1400)
    gone = torch.randperm(1400, generator=torch.Generator().manual_seed(0))[:50]
    at = np.array([places[index] for index in gone.tolist()])
    np.savez(tmp_path / "gone.npz", x=x_NCHW[gone].numpy(), y=y_N[gone].numpy(), at=at)
    forget(state, [tmp_path / "gone.npz"], None, drop_older=True, trust_labels=True)
    never, rest = Assigned(2), torch.ones(1400, dtype=torch.bool)
    rest[gone] = False
    never.learn_as(x_NCHW[rest], y_N[rest], regime_N[rest])
    assert digest_of(state) == sums_digest(never)
    passed_audit(state)
    assert not verify_topic(state, settings_of(broker, topic)).equal
    assert verify_topic(state, settings_of(broker, topic), without=[tmp_path / "gone.npz"]).equal
