"""Ranks on two hosts, which are network namespaces: one is lost, and the other learns the rest."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.support.faults.launches import (
    Launched,
    arguments,
    has_saved,
    has_started,
    launched,
    learned_all,
)
from tests.support.faults.topics import Fill, records
from tests.support.hosts import INTERFACE, Host, two_hosts

FIRST, SECOND = records("a", 400, 1), records("b", 403, 2)
TOTAL: Final = len(FIRST) + len(SECOND)
RENDEZVOUS: Final = 29_400
"""The port at which torchrun's agents meet, on the first host."""
NOTICED_SECONDS: Final = 20


@pytest.mark.long
@pytest.mark.needs("kafka", "hosts")
@pytest.mark.timeout(900)
def test_a_host_that_is_lost_is_done_without(fill: Fill, topic: str, tmp_path: Path) -> None:
    stage, state = fill(topic, FIRST), tmp_path / "state"
    port = int(stage.bootstrap_servers.rpartition(":")[2])
    with two_hosts(port) as hosts, ExitStack() as agents:

        def agent(host: Host) -> Launched:
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2"]
            torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{hosts[0].address}:{RENDEZVOUS}"]
            torchrun += ["--rdzv-id", topic, "--local-addr", host.address, "--nproc-per-node", "1"]
            torchrun += ["--rdzv-conf", f"is_host={int(host is hosts[0])}", "--max-restarts", "20"]
            torchrun += ["-m", "lethe"]
            learn = [*arguments(stage, state, TOTAL), "--run-rank-timeout", str(NOTICED_SECONDS)]
            log, interface = tmp_path / f"{host.name}.log", {"GLOO_SOCKET_IFNAME": INTERFACE}
            return agents.enter_context(launched(host.command([*torchrun, *learn]), log, interface))

        stays, goes = map(agent, hosts)
        has_started(stays, 2, 1)
        has_saved(stays, state, 128)
        assert "the ranks are on several machines" in stays.log
        hosts[1].cut()  # the other host is not told that its connections have ended
        goes.kill()
        has_started(stays, 1, 1)
        assert "has lost the others" in stays.log
        fill(topic, SECOND)
        assert stays.process.wait(300) == 0, stays.log
    assert learned_all(state, TOTAL)
