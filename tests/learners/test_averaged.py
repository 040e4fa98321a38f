"""Learners whose gradients several ranks average take the steps that one learner of all batches would."""

import math
from typing import Any, Final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.errors import DivergedLoss, InvalidSetting, RanksDiffer
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.capabilities import Pools
from lethe.learners.checks.helpers import batch, frozen
from lethe.learners.gradient.averaged import AveragedLearner
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.registry import LEARNERS, create
from lethe.wire import Layout
from lethe_producers.datasets import Split, default_root, load
from tests.support.pools import together

LAYOUT: Final = Layout(height=8, width=8, classes=4)
AVERAGED: Final = sorted(name for name, kind in LEARNERS.items() if issubclass(kind, AveragedLearner))
SPLITS: Final[tuple[Split, ...]] = ("train", "test")
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "ewc": {"lag": 0, "strength": 1e3},
    "si": {"lag": 0, "strength": 1e3},
    "mas": {"lag": 0, "strength": 1e3, "every": 24},
    "lwf": {"lag": 0},
    "generative-replay": {"lag": 0, "latent": 4, "replayed": 8},
}

pytestmark = pytest.mark.usefixtures("one_thread")


def new(name: str, **more: Any) -> AveragedLearner:
    options = {"backbone": "mlp", "optimizer": "SGD", "lr": 0.05, **OPTIONS.get(name, {}), **more}
    learner = create(name, LearnerContext(LAYOUT, options=options))
    assert isinstance(learner, AveragedLearner)
    return learner


def learn(learner: Learner, sizes: list[int], rank: int, ranks: int) -> None:
    """Learn one rank's batches of each round, with a boundary in between."""
    for number, size in enumerate(sizes):
        x_BCHW, y_B = batch(size, number)
        own_B = torch.arange(size) % ranks == rank
        if own_B.any():
            learner.learn(x_BCHW[own_B], y_B[own_B])
        elif isinstance(learner, Pools):
            learner.skip()
        if number == len(sizes) // 2:
            learner.boundary()


def distance(one: Learner, other: Learner) -> float:
    """The largest difference of two states, over the size of the tensor that it is in."""
    ours, theirs = one.state(), other.state()
    assert ours.values == theirs.values
    return max(
        float((tensor - theirs.tensors[name]).abs().max() / tensor.abs().max().clamp_min(1e-3))
        for name, tensor in ours.tensors.items()
        if tensor.is_floating_point()
    )


@pytest.mark.parametrize("name", [name for name in AVERAGED if name != "generative-replay"])
@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6), ranks=st.integers(2, 4))
def test_the_steps_of_ranks_are_those_of_one_learner_of_all_their_batches(
    name: str, sizes: list[int], ranks: int
) -> None:
    alone, team = new(name), [new(name) for _ in range(ranks)]
    learn(alone, sizes, 0, 1)
    together(team, lambda rank, learner: learn(as_learner(learner), sizes, rank, ranks))
    assert distance(alone, team[0]) < 1e-3
    assert all(frozen(other.state()) == frozen(team[0].state()) for other in team[1:])


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
@pytest.mark.parametrize("name", AVERAGED)
def test_all_ranks_hold_the_same_bits_after_every_round(name: str, optimizer: str) -> None:
    team = [new(name, optimizer=optimizer) for _ in range(3)]

    def act(rank: int, learner: Pools) -> None:
        for _ in range(2):
            learn(as_learner(learner), [30, 2, 7, 1, 25], rank, 3)
            learner.pool()  # it compares them

    together(team, act)
    assert frozen(team[0].state()) != frozen(new(name).state())


def test_ranks_draw_different_random_numbers() -> None:
    team = [new("finetune"), new("finetune")]
    together(team, lambda rank, learner: None)
    seeds = [learner._derived_seed("network") for learner in [new("finetune"), *team]]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.mark.parametrize("name", AVERAGED)
def test_a_rank_that_joins_later_takes_over_the_whole_state(name: str) -> None:
    before = new(name, optimizer="Adam")
    learn(before, [20, 20, 20], 0, 1)
    team = [new(name, optimizer="Adam") for _ in range(3)]
    team[0].load_state(before.state())
    together(team, lambda rank, learner: learner.share(refresh=False))
    assert all(frozen(learner.state()) == frozen(before.state()) for learner in team)


def test_a_loss_that_is_not_finite_on_one_rank_stops_all_before_anything_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    team = [new("finetune") for _ in range(3)]
    raised = []

    def act(rank: int, learner: Pools) -> None:
        learn(as_learner(learner), [30], rank, 3)
        if rank == 1:
            monkeypatch.setattr(learner, "_objective", lambda step: step.loss * math.nan)
        before = frozen(as_learner(learner).state())
        with pytest.raises(DivergedLoss, match=r"a batch of 30 samples is not learned: .*objective nan"):
            learn(as_learner(learner), [30], rank, 3)
        raised.append(rank)
        assert frozen(as_learner(learner).state()) == before

    together(team, act)
    assert sorted(raised) == [0, 1, 2]


def test_ranks_whose_weights_differ_are_noticed() -> None:
    team = [new("finetune") for _ in range(3)]

    def act(rank: int, learner: Pools) -> None:
        learn(as_learner(learner), [30], rank, 3)
        learner.pool()
        if rank == 2:
            next(team[2]._model.parameters()).data.view(-1)[5] += 1e-6
            with pytest.raises(RanksDiffer, match=r"rank 2 and rank 0 .* hold different weights"):
                learner.pool()
        else:
            learner.pool()

    together(team, act)


def test_a_parameter_without_gradient_on_all_ranks_is_not_moved() -> None:
    team = [new("finetune", backbone="tests.support.networks:Unused", optimizer="Adam") for _ in range(2)]
    together(team, lambda rank, learner: learn(as_learner(learner), [8, 1], rank, 2))
    unused = [p for p in team[0]._model.parameters() if p.grad is None]
    assert unused
    assert not any(p in team[0]._optimizer.state for p in unused)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        ("batch_norm", r"its batch norms \(2\) use the statistics of each rank's own batch"),
        ("spectral", "training changes buffers of it"),
    ],
)
def test_a_network_that_depends_on_its_own_batches_is_refused_by_name(network: str, why: str) -> None:
    backbone = f"tests.support.networks:{network}"
    with pytest.raises(InvalidSetting, match=f"backbone: {backbone}: several ranks .*: {why}"):
        together([new("finetune", backbone=backbone)], lambda rank, learner: None)


def test_only_finetune_takes_steps_apart() -> None:
    assert [name for name, kind in LEARNERS.items() if _can_step_apart(kind)] == ["finetune"]
    with pytest.raises(NotImplementedError, match="4 rounds apart: what it keeps of earlier weights"):
        new("ewc").average_every(4)


def _can_step_apart(kind: type[Learner]) -> bool:
    return issubclass(kind, Pools) and not kind.no_local_steps


def apart(learner: Pools, rounds: int) -> AveragedLearner:
    assert isinstance(learner, AveragedLearner)
    learner.average_every(rounds)
    return learner


def learns(rank: int, number: int) -> bool:
    """Whether a rank has a batch in a round; the last one has taken no step at the first average."""
    return rank != number % 3 and (rank < 2 or number > 3)


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "Adam"}, {"optimizer_options": {"momentum": 0.9}}], ids=str
)
def test_ranks_that_step_apart_hold_the_same_bits_after_each_average(options: dict[str, Any]) -> None:
    team = [new("finetune", **options) for _ in range(3)]
    states: dict[tuple[int, int], Any] = {}

    def act(rank: int, learner: Pools) -> None:
        own = apart(learner, 3)
        for number in range(7):
            if learns(rank, number):
                own.learn(*batch(8, 10 * number + rank))
            else:
                own.skip()
            assert own.level == (number in (2, 5))
            states[number, rank] = frozen(own.state())
        own.pool()  # averages before the next one is due
        assert own.level
        states[7, rank] = frozen(own.state())

    together(team, act)
    for number in range(8):
        same = states[number, 0] == states[number, 1] == states[number, 2]
        assert same == (number in (2, 5, 7)), number
    steps = sum(learns(rank, number) for rank in range(3) for number in range(7))
    assert team[0].state().values == {"seen": 8 * steps}


def test_a_rank_has_the_weight_of_its_samples_in_an_average() -> None:
    one_step, team = [new("finetune"), new("finetune")], [new("finetune"), new("finetune")]

    def act(rank: int, learner: Pools) -> None:
        as_learner(learner).learn(*batch((30, 6)[rank], rank))
        if as_learner(learner) in team:
            learner.skip()

    def act_apart(rank: int, learner: Pools) -> None:
        act(rank, apart(learner, 2))

    together(one_step, act)
    together(team, act_apart)
    assert distance(one_step[0], team[0]) < 1e-4, "one step of SGD from the same weights"


@pytest.mark.long
@pytest.mark.needs("datasets")
def test_two_ranks_that_step_apart_are_as_accurate_as_two_that_step_together() -> None:
    train, test = ([torch.tensor(part) for part in load("mnist", split, default_root())] for split in SPLITS)
    accuracies = []
    for rounds in (1, 8):
        team = [Finetune(LearnerContext(Layout())) for _ in range(2)]

        def act(rank: int, learner: Pools, rounds: int = rounds) -> None:
            if rounds > 1:
                learner.average_every(rounds)
            for x_BCHW, y_B in zip(*(torch.split(part, 128) for part in train), strict=True):
                as_learner(learner).learn(x_BCHW[rank::2], y_B[rank::2])
            learner.pool()

        together(team, act)
        assert frozen(team[0].state()) == frozen(team[1].state())
        right_N = team[0].predict_proba(test[0]).argmax(1) == test[1]
        accuracies.append(float(right_N.double().mean()))
    assert min(accuracies) > 0.97
    assert abs(accuracies[0] - accuracies[1]) <= 0.01


@pytest.mark.long
@pytest.mark.needs("datasets")
def test_two_ranks_are_as_accurate_as_one_learner_with_both_batches_in_one() -> None:
    context = LearnerContext(Layout())
    train, test = ([torch.tensor(part) for part in load("mnist", split, default_root())] for split in SPLITS)
    alone, team = Finetune(context), [Finetune(context) for _ in range(2)]

    def act(learner: Learner, rank: int, ranks: int) -> None:
        for x_BCHW, y_B in zip(*(torch.split(part, 128) for part in train), strict=True):
            learner.learn(x_BCHW[rank::ranks], y_B[rank::ranks])

    def accuracy(learner: Learner) -> float:
        return float((learner.predict_proba(test[0]).argmax(1) == test[1]).double().mean())

    act(alone, 0, 1)
    together(team, lambda rank, learner: act(as_learner(learner), rank, 2))
    assert accuracy(alone) > 0.97
    assert abs(accuracy(team[0]) - accuracy(alone)) <= 0.005
    assert frozen(team[0].state()) == frozen(team[1].state())


def as_learner(learner: Pools) -> Learner:
    assert isinstance(learner, Learner)
    return learner
