"""Ranks that nothing starts together: the variables of torch.distributed describe them."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed.rendezvous import rendezvous

from deploy.kafka.kraft import free_port
from lethe.errors import InvalidSetting
from lethe.runtime.ranks.environment import (
    is_rank,
    local_world,
    master,
    several_hosts,
    starts_apart,
    variables,
)
from lethe.runtime.ranks.group import Group, joined
from lethe.runtime.run_rank import run_rank
from lethe.settings import Settings
from tests.support.forked import forked
from tests.support.groups import run

POD = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "lethe-0.lethe-ranks", "MASTER_PORT": "29500"}
TIMEOUT = 0.5
"""Of an answer; the ranks wait for each other for longer."""


def put(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_the_variables_of_torch_make_a_rank_on_a_machine_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, POD)
    assert is_rank()
    assert starts_apart()
    assert master() == ("lethe-0.lethe-ranks", 29500)
    assert local_world() == 1
    assert several_hosts()


@pytest.mark.parametrize("missing", POD)
def test_without_one_of_them_it_is_none(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, POD)
    monkeypatch.delenv(missing)
    assert not is_rank()
    assert not starts_apart()


@pytest.mark.parametrize("more", [{"TORCHELASTIC_RUN_ID": "images"}, variables(1, 2, "store")])
def test_torchrun_and_the_command_start_ranks_together(
    more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, POD | more)
    assert is_rank()
    assert not starts_apart()


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_there_is_not_is_refused(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, POD | {"RANK": str(rank)})
    with pytest.raises(InvalidSetting, match=f"RANK {rank}: with WORLD_SIZE 2 there is no such rank"):
        run_rank(Settings.read({}))


def answer(group: Group) -> object:
    return [group.rank, group.size, group.command(7 if group.leads else 0)]


def test_they_meet_at_the_first(tmp_path: Path) -> None:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    statuses, results = run(answer, tmp_path, 2, meeting)
    assert statuses == [0, 0]
    assert results == [[0, 2, 7], [1, 2, 7]]


def test_they_wait_for_each_other_for_longer_than_for_an_answer() -> None:
    port = free_port()
    waits = forked().Process(
        target=_join, args=(POD | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},)
    )
    waits.start()
    try:
        here = rendezvous(f"tcp://127.0.0.1:{port}?rank=0&world_size=2", timeout=timedelta(seconds=240))
        first = next(here)  # the other has come, and this rank 0 comes no further
        time.sleep(TIMEOUT * 6)
        assert waits.is_alive(), "it still waits"
        del first
    finally:
        waits.kill()
        waits.join()


def _join(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with joined(TIMEOUT):
        raise AssertionError("there is nobody")
