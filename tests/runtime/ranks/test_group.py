"""The connection between ranks: commands, notes of any length, and the end of one of them."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from lethe.errors import RankLost
from lethe.runtime.ranks.group import NOTE_BYTES, Group
from tests.support.groups import run

LEARN = 5
LENGTHS = (0, 1, NOTE_BYTES - 1, NOTE_BYTES, NOTE_BYTES + 1, 100_000)


def exchange(group: Group) -> object:
    notes = [[len(note) for note in group.gather(b"x" * (length + group.rank))] for length in LENGTHS]
    sent = [len(group.broadcast_bytes(b"y" * length if group.leads else b"")) for length in LENGTHS]
    tensor = torch.tensor([group.rank + 1])
    group.all_reduce(tensor)
    given = torch.tensor([group.rank + 7])
    group.broadcast(given)
    return [group.command(5 if group.leads else 0), notes, sent, tensor.item(), given.item()]


def overlap(group: Group) -> object:
    done: list[str] = []
    command = LEARN
    if group.leads:
        group.send_command(LEARN)
    else:
        time.sleep(1)
        command = group.command()
    notes = group.gather(b"x" * LENGTHS[-1], lambda: done.append("meanwhile"))
    return [command, done, [len(note) for note in notes]]


def end_one(group: Group) -> object:
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return group.command()


def test_every_rank_receives_what_is_broadcast_and_the_first_gathers_all(tmp_path: Path) -> None:
    statuses, results = run(exchange, tmp_path)
    assert statuses == [0, 0, 0]
    gathered = [[length + rank for rank in range(3)] for length in LENGTHS]
    assert results[0] == [5, gathered, list(LENGTHS), 6, 7]
    assert results[1] == results[2] == [5, [[] for _ in LENGTHS], list(LENGTHS), 6, 7]


def test_a_command_and_notes_travel_while_something_else_is_done(tmp_path: Path) -> None:
    statuses, results = run(overlap, tmp_path)
    assert statuses == [0, 0, 0]
    assert results[0] == [LEARN, ["meanwhile"], [LENGTHS[-1]] * 3]
    assert results[1] == results[2] == [LEARN, ["meanwhile"], []]


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_others_notice_the_end_of_one(ranks: int, tmp_path: Path) -> None:
    statuses, results = run(end_one, tmp_path, ranks)
    assert statuses[1] == -signal.SIGKILL
    assert statuses[0] == RankLost.status
    assert results[0] == "lost"
