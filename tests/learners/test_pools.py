"""Learners that several ranks learn together know, to the last bit, what one would."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lethe.checkpointing.checkpoint import state_digest
from lethe.learners.analytic.base import SumsLearner
from lethe.learners.analytic.gram import Gram
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.capabilities import Capability, Pools
from lethe.learners.features.compression import LARGEST
from lethe.learners.registry import LEARNERS, create
from lethe.learners.state import State
from lethe.wire import Layout
from tests.support.pools import in_threads, pools, together

LAYOUT = Layout(height=8, width=8, classes=3)
SUMS = sorted(name for name, kind in LEARNERS.items() if issubclass(kind, SumsLearner))
POOLING = sorted(name for name, kind in LEARNERS.items() if Capability.POOLS in kind.capabilities)


def new(name: str, **options: Any) -> SumsLearner:
    learner = create(name, LearnerContext(LAYOUT, options={"waves": 8, **options}))
    assert isinstance(learner, SumsLearner)
    return learner


def batch(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    y_B = torch.randint(0, LAYOUT.classes, (samples,), generator=random)
    x_BCHW = torch.randint(0, 100, (samples, *LAYOUT.shape), generator=random, dtype=torch.uint8)
    x_BCHW[torch.arange(samples), 0, y_B] = 255
    return x_BCHW, y_B


def digest(learner: SumsLearner) -> str:
    return state_digest(State(learner.sums(), {}))


def test_learners_that_pool_are_known_and_the_others_say_why_they_do_not() -> None:
    assert SUMS == ["ncm", "ridge", "slda"]
    assert set(POOLING) == {*SUMS, "experts", "finetune", "ewc", "si", "mas", "lwf", "generative-replay"}
    assert all(kind.why_not(Capability.POOLS) for name, kind in LEARNERS.items() if name not in POOLING)


@pytest.mark.parametrize("name", SUMS)
@settings(max_examples=10, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    ranks=st.integers(1, 5),
    pooled_after=st.sets(st.integers(0, 3)),
)
def test_pooled_sums_are_those_of_one_learner(
    name: str, sizes: list[int], ranks: int, pooled_after: set[int]
) -> None:
    alone, team = new(name), [new(name) for _ in range(ranks)]
    for number, size in enumerate(sizes):
        alone.learn(*batch(size, number))

    def act(rank: int, learner: Pools) -> None:
        assert isinstance(learner, SumsLearner)
        for round_ in range(-(-len(sizes) // ranks)):
            if (number := round_ * ranks + rank) < len(sizes):
                learner.learn(*batch(sizes[number], number))
            if round_ in pooled_after:
                learner.pool()
        learner.pool()

    together(team, act)
    assert digest(team[0]) == digest(alone)
    assert all(digest(other) == digest(new(name)) for other in team[1:]), "the others begin anew"
    unseen = batch(20, 99)[0]
    assert torch.equal(team[0].predict_proba(unseen), alone.predict_proba(unseen))


@pytest.mark.parametrize("name", SUMS)
def test_all_ranks_predict_from_what_all_have_learned(name: str) -> None:
    alone, team = new(name), [new(name) for _ in range(3)]
    for number in range(3):
        alone.learn(*batch(64, number))
    predicted: dict[int, list[int]] = {}

    def act(rank: int, learner: Pools) -> None:
        assert isinstance(learner, SumsLearner)
        learner.learn(*batch(64, rank))
        learner.pool()
        learner.share(refresh=True)
        predicted[rank] = learner.learn(*batch(30, 7)).predicted_B.tolist()

    together(team, act)
    expected = alone.predict_proba(batch(30, 7)[0]).argmax(1).tolist()
    assert predicted == dict.fromkeys(range(3), expected)


@pytest.mark.parametrize("name", [*SUMS, "experts"])
def test_every_rank_predicts_what_the_leading_one_does_once_its_solution_is_shared(name: str) -> None:
    learners = [create(name, LearnerContext(LAYOUT, options={"waves": 8})) for _ in range(3)]
    team = [learner for learner in learners if isinstance(learner, Pools)]
    unseen, seen = batch(20, 99)[0], [batch(64, number) for number in range(6)]
    predicted: dict[tuple[int, int], Tensor] = {}

    def act(rank: int, learner: Pools) -> None:
        assert isinstance(learner, Learner)
        for turn in range(3):  # the first time nothing is learned
            if turn:
                learner.learn(*seen[3 * (turn - 1) + rank])
            learner.pool()
            learner.share_solution()
            predicted[turn, rank] = learner.predict_proba(unseen)

    together(team, act)
    alone = create(name, LearnerContext(LAYOUT, options={"waves": 8}))
    for turn in range(3):
        if turn:
            alone.learn(*(torch.cat(part) for part in zip(*seen[3 * (turn - 1) : 3 * turn], strict=True)))
        expected = alone.predict_proba(unseen)
        assert all(torch.equal(predicted[turn, rank], expected) for rank in range(3))


@pytest.mark.parametrize("name", SUMS)
def test_a_rank_that_joins_later_takes_over_what_the_first_one_predicts_from(name: str) -> None:
    before = new(name)
    for number in range(3):
        before.learn(*batch(64, number))
    team = [new(name), new(name)]
    team[0].load_state(before.state())
    predicted: dict[int, list[int]] = {}

    def act(rank: int, learner: Pools) -> None:
        assert isinstance(learner, SumsLearner)
        learner.share(refresh=False)
        predicted[rank] = learner.learn(*batch(30, 7)).predicted_B.tolist()

    together(team, act)
    assert predicted[0] == predicted[1] == before.learn(*batch(30, 7)).predicted_B.tolist()


def test_a_refresh_is_due_when_the_samples_of_all_ranks_are() -> None:
    ridge = new("ridge", first_refresh=64)
    together([ridge], lambda _, learner: None)
    ridge.learn(*batch(40, 1))
    assert not ridge.refresh_due(others=20)
    assert ridge.predictor().behind == 60
    assert ridge.refresh_due(others=24)
    assert not ridge.refresh_due(others=24), "the next one is scheduled"


@pytest.mark.parametrize("samples", [1, 44_381, 44_382, 133_145, 9_000_000])
def test_a_pooled_gram_is_stored_as_a_merged_one(samples: int) -> None:
    random = torch.Generator().manual_seed(samples)
    parts = [Gram(3, torch.device("cpu")) for _ in range(4)]
    merged = Gram(3, torch.device("cpu"))
    for part in parts:
        entries = torch.randint(-samples, samples + 1, part.low.shape, generator=random) * LARGEST**2
        entries[:2] = torch.tensor([samples, -samples]) * LARGEST**2  # the most that so many samples make
        high = (entries + (1 << 29)) >> 30
        part.load((entries - (high << 30)).to(torch.int32), high.to(torch.int32), samples)
        part.fold()
        merged.merge(part)
    ranks = pools(4)
    in_threads(ranks, lambda rank: parts[rank.rank].pool(rank))
    assert torch.equal(parts[0].low, merged.low)
    assert torch.equal(parts[0].high, merged.high)
    assert parts[0].high.dtype == merged.high.dtype
    assert parts[0].samples == merged.samples
    assert ranks[0].summed == {torch.int32 if 3 * samples <= 133_144 else torch.int64}
