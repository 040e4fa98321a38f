"""Ranks in the pods of a StatefulSet: one is killed, all end and meet again, and go on."""

import os
import signal
import subprocess
import sysconfig
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree

import pytest

from lethe.errors import RankLost
from tests.support.faults.launches import Launched, has_saved, launched, learned_all
from tests.support.faults.services import SIZE
from tests.support.faults.topics import Fill, records
from tests.support.hosts import two_hosts
from tests.support.kustomized import build
from tests.support.monitoring import DEPLOY
from tests.support.pods import pods
from tests.support.waiting import until

FIRST, SECOND = records("a", 400, 1), records("b", 403, 2)
TOTAL = len(FIRST) + len(SECOND)


@pytest.mark.long
@pytest.mark.needs("kafka", "hosts")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [0, 1])
def test_pods_meet_again_after_one_was_killed(fill: Fill, topic: str, tmp_path: Path, killed: int) -> None:
    stage = fill(topic, FIRST)
    port = int(stage.bootstrap_servers.rpartition(":")[2])
    ranks = pods(build(DEPLOY / "kubernetes-ranks"), "lethe")
    volumes = [tmp_path / f"volume-{ordinal}" for ordinal in range(len(ranks))]
    for volume in volumes:  # what the init container does
        copytree(stage.probes, volume / "probes")
    state = volumes[0] / "checkpoints"
    small = {
        "LETHE_STREAM__BOOTSTRAP_SERVERS": stage.bootstrap_servers,
        "LETHE_STREAM__TOPIC": stage.topic,
        "LETHE_STREAM__STOP_AFTER": str(TOTAL),
        "LETHE_SAMPLE__HEIGHT": str(SIZE),
        "LETHE_SAMPLE__WIDTH": str(SIZE),
        "LETHE_LEARNER__NAME": "ncm",
        "LETHE_BATCH__SIZE": "32",
        "LETHE_CHECKPOINT__EVERY_SAMPLES": "64",
    }
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    with two_hosts(port, [pod.name for pod in ranks]) as hosts, ExitStack() as running:

        def environment(ordinal: int) -> dict[str, str]:
            given = {**ranks[ordinal].environment, **small, "PATH": path}
            return {name: value.replace("/state", str(volumes[ordinal])) for name, value in given.items()}

        def start(ordinal: int, time: int) -> Launched:
            command = hosts[ordinal].command(ranks[ordinal].command)
            log = tmp_path / f"{ordinal}-{time}.log"
            return running.enter_context(launched(command, log, environment(ordinal)))

        def is_well(ordinal: int, probe: str) -> bool:
            command = hosts[ordinal].command(ranks[ordinal].container[probe]["exec"]["command"])
            asked = {**os.environ, **environment(ordinal)}
            return subprocess.run(command, env=asked, capture_output=True).returncode == 0

        started = [start(0, 1), start(1, 1)]
        leads, ends, stays = started[0], started[killed], started[1 - killed]
        has_saved(leads, state, 128)
        assert "the ranks are on several machines" in leads.log
        until(lambda: is_well(0, "readinessProbe"), "rank 0 is ready")
        assert all(is_well(ordinal, "livenessProbe") for ordinal in (0, 1))
        ends.process.send_signal(signal.SIGKILL)
        assert stays.process.wait(120) == RankLost.status, stays.log
        assert not is_well(0, "livenessProbe")

        fill(topic, SECOND)
        follows, leads = start(1, 2), start(0, 2)
        assert leads.process.wait(300) == 0, leads.log
        assert follows.process.wait(60) == 0, follows.log
    assert learned_all(state, TOTAL)
    assert [kept.name for kept in volumes[1].iterdir()] == ["probes"], "a rank that follows has no state"
