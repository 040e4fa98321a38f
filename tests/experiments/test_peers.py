"""The peers' harness, without their libraries: same stream, network and probes as `finetune`."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lethe.errors import InvalidSetting
from lethe.experiments.bench.offline_run import OfflineRun, run_offline
from lethe.experiments.bench.score_files import read_scores
from lethe.experiments.bench.scores import Score
from lethe.experiments.bench.speed import BARE, SpeedBench, bench_speed, speeds_table
from lethe.learners.base import LearnerContext, Retention
from lethe.wire import Layout, decode
from lethe_producers.datasets import default_root
from lethe_producers.order import Order
from lethe_producers.records import Records
from tests.benchmarks.peers.lockstep import Lockstep
from tests.benchmarks.peers.measuring import measure, peers, write
from tests.benchmarks.peers.peer import Peer, floats
from tests.benchmarks.peers.recorder import record
from tests.benchmarks.peers.speed import PeerLoop
from tests.support.scenarios import ABRUPT

needs_datasets = pytest.mark.needs("datasets")

BATCH = 64
SAMPLES = 300  # no multiple of a batch, so one holds samples of both segments


class Plain(Peer):
    """What a library's plain gradient descent does."""

    name: ClassVar[str] = "plain"
    retains: ClassVar[Retention] = Retention.NOTHING
    keeps: ClassVar[str] = "hardly anything"
    summary: ClassVar[str] = "plain gradient descent"
    paper: ClassVar[str] = "none"

    def __init__(self, context: LearnerContext) -> None:
        super().__init__(context)
        self.notified_at: list[int] = []
        self._seen = 0

    def _learn(self, x_BCHW: Tensor, y_B: Tensor, at_boundary: bool) -> Tensor:
        if at_boundary:
            self.notified_at.append(self._seen)
        self._seen += len(y_B)
        scores_BK: Tensor = self._model(floats(x_BCHW))
        self._optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(scores_BK, y_B))
        self._optimizer.step()
        return scores_BK.argmax(1)

    def _kept(self) -> Iterable[Tensor]:
        return [torch.zeros(1000)]


@needs_datasets
def test_a_peer_that_does_the_same_as_finetune_reaches_the_same_scores() -> None:
    offline = OfflineRun("finetune", ABRUPT, seed=1, samples=SAMPLES)
    ours, theirs = Score.of(offline, "finetune", run_offline(offline), None), measure(Plain, offline)
    assert (theirs.learner, theirs.retains, theirs.given_boundaries) == ("plain", "hardly anything", True)
    assert theirs.state_bytes == ours.state_bytes + 4000
    measured = ("scenario", "seed", "acc", "probes", "bwt", "wc_acc", "anytime", "boundaries")
    assert [theirs.model_dump()[name] for name in measured] == [ours.model_dump()[name] for name in measured]


@needs_datasets
def test_the_recording_is_the_stream_in_order_split_at_the_boundaries() -> None:
    first, second = record(OfflineRun("recorder", ABRUPT, seed=1, samples=SAMPLES, oracle=True))
    records = Records(Order(ABRUPT, seed=1, samples=SAMPLES), default_root())
    stream = [decode(each.value, each.headers, Layout()) for each in map(records.at, range(2 * SAMPLES))]
    x_NCHW, y_N = torch.cat(first.x + second.x).numpy(), torch.cat(first.y + second.y).tolist()
    assert np.array_equal(x_NCHW, np.stack([sample.pixels for sample in stream]))
    assert y_N == [sample.label for sample in stream]
    assert sum(map(len, first.y)) == SAMPLES - SAMPLES % BATCH


def test_a_peer_is_notified_of_a_boundary_once_with_the_next_batch() -> None:
    peer = Plain(LearnerContext(Layout()))
    batch = torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1])
    peer.learn(*batch)
    peer.boundary()
    assert peer.notified_at == []
    peer.learn(*batch)
    peer.learn(*batch)
    assert peer.notified_at == [2]


def test_a_peer_is_a_side_of_the_speed_benchmark() -> None:
    bench = SpeedBench(("ncm",), threads=1, samples=512, turns=1)
    (speeds,) = bench_speed(bench, others={"plain": PeerLoop(Plain)})
    assert [*speeds.seconds] == [BARE, "ncm", "plain"]
    assert 0 < speeds.ratio("plain") < 10
    assert speeds_table(speeds, 1).row_count == 3


def test_a_peers_loop_is_run_one_round_at_a_time() -> None:
    said: list[str] = []

    def loop(lockstep: Lockstep) -> None:
        for word in ("one", "two"):
            lockstep.rest()
            said.append(word)

    lockstep = Lockstep(loop)
    assert said == []
    lockstep.go()
    assert said == ["one"]
    lockstep.go()
    assert said == ["one", "two"]
    with pytest.raises(EOFError, match="ended"):
        lockstep.go()


def test_an_exception_in_the_peers_loop_is_raised_by_the_caller() -> None:
    def loop(lockstep: Lockstep) -> None:
        lockstep.rest()
        raise ArithmeticError("diverged")

    lockstep = Lockstep(loop)
    with pytest.raises(ArithmeticError, match="diverged"):
        lockstep.go()


@needs_datasets
def test_lethes_own_table_reads_the_scores(tmp_path: Path) -> None:
    score = measure(Plain, OfflineRun("plain", ABRUPT, samples=BATCH))
    write([score], tmp_path / "peers.json")
    assert read_scores([tmp_path / "peers.json"]) == {score.key: score}


@pytest.mark.parametrize("package", ["capymoa", "avalanche"])
def test_a_package_that_is_missing_is_named_with_the_way_to_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("capymoa", "avalanche"):
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    with pytest.raises(InvalidSetting, match=rf"^{package} is not installed: run `make peers`"):
        peers()
