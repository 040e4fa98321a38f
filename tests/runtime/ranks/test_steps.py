"""Ranks in processes of their own take the same steps, to the last bit."""

from pathlib import Path

import torch

from lethe.learners.base import LearnerContext
from lethe.learners.checks.helpers import batch
from lethe.learners.gradient.ewc import EWC
from lethe.learners.gradient.finetune import Finetune
from lethe.runtime.ranks.group import Group
from lethe.wire import Layout
from tests.support.groups import run

ROUNDS = 12


def learn(group: Group) -> object:
    torch.set_num_threads(1)
    learner = EWC(LearnerContext(Layout(height=8, width=8, classes=4), options={"lag": 0}))
    learner.join(group)
    learner.share(refresh=False)
    for number in range(ROUNDS):
        if number % 3 == group.rank:
            learner.skip()  # another rank in each round has no batch
        else:
            learner.learn(*batch(9 + 5 * group.rank, 100 * group.rank + number))
        if number == ROUNDS // 2:
            learner.boundary()
    learner.pool()
    return learner.state().to_bytes().hex()


def learn_apart(group: Group) -> object:
    torch.set_num_threads(1)
    learner = Finetune(LearnerContext(Layout(height=8, width=8, classes=4), options={"backbone": "mlp"}))
    learner.join(group)
    learner.average_every(4)
    for number in range(ROUNDS):
        learner.learn(*batch(9 + 5 * group.rank, 100 * group.rank + number))
    return learner.state().to_bytes().hex()


def test_all_ranks_hold_the_same_bits_after_an_average(tmp_path: Path) -> None:
    statuses, states = run(learn_apart, tmp_path)
    assert statuses == [0, 0, 0]
    assert states[0] == states[1] == states[2]


def test_all_ranks_hold_the_same_bits(tmp_path: Path) -> None:
    statuses, states = run(learn, tmp_path)
    assert statuses == [0, 0, 0]
    assert states[0] == states[1] == states[2]
