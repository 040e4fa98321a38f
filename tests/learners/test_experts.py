"""Experts: regimes are found in the images alone, recognised when they recur, and kept apart."""

from dataclasses import replace
from threading import Barrier

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lethe.checkpointing.safetensors_writer import digest
from lethe.errors import NeverLearned
from lethe.learners.analytic.experts import Experts
from lethe.learners.analytic.regime_tracker import RegimeTracker
from lethe.learners.analytic.regimes import MIN_CHUNK, MIN_TO_OPEN, NEW, SETTLED, assign, assign_in_chunks
from lethe.learners.analytic.thumbnails import PIXELS, Thumbnails, ThumbnailStatistics
from lethe.learners.base import LearnerContext
from lethe.learners.capabilities import Pools
from lethe.wire import Layout
from tests.support.pools import together
from tests.support.subjects import LAYOUT, OPTIONS, Assigned, subject

pytestmark = pytest.mark.usefixtures("one_thread")


def taught(*visits: int, batches: int = 10, size: int = 64, **options: int) -> Experts:
    """A learner after ``batches`` times 64 images of each subject in turn, in batches of ``size``."""
    learner = Experts(LearnerContext(LAYOUT, options={**OPTIONS, **options}))
    for visit, which in enumerate(visits):
        for batch in range(batches):
            x_BCHW, y_B = subject(which, 100 * visit + batch)
            for part in zip(torch.split(x_BCHW, size), torch.split(y_B, size), strict=True):
                learner.learn(*part)
    return learner


def accuracy(learner: Experts, which: int) -> float:
    x_BCHW, y_B = subject(which, 999, 400)
    return (learner.predict_proba(x_BCHW).argmax(1) == y_B).double().mean().item()


def test_a_subject_that_no_batch_was_like_opens_a_regime_and_one_that_recurs_does_not() -> None:
    assert taught(0, 0).regimes == 1
    assert taught(0, 1, 2, 0, 2, 1).regimes == 3


@pytest.mark.parametrize(("size", "visits"), [(1, (0, 1, 0)), (5, (0, 1, 2, 0, 2, 1)), (15, (0, 0))])
def test_batches_too_small_to_be_judged_alone_are_judged_together(size: int, visits: tuple[int, ...]) -> None:
    learner = taught(*visits, size=size)
    assert learner.regimes == len(set(visits))
    assert [accuracy(learner, which) for which in set(visits)] == pytest.approx(
        [1.0] * learner.regimes, abs=0.03
    )


@pytest.mark.parametrize("size", [1, 16, 40, 64, 512, 1024])
def test_segments_of_1_100_become_a_regime_each_whatever_the_size_of_the_batches(size: int) -> None:
    """Only what says which regime a sample is of, without the ridges."""
    z_NS = torch.cat([gaussian(visit, 1100, 0.4 * (visit % 3)) for visit in range(6)])
    signatures, trail, seen = [ThumbnailStatistics()], RegimeTracker(), [0]
    for z_BS in torch.split(z_NS, size):
        if len(z_BS) >= MIN_CHUNK:
            regime_B = assign_in_chunks(signatures, z_BS, room=True)
        else:
            trail = trail.after(signatures, z_BS, room=True)
            regime_B = torch.full((len(z_BS),), trail.regime)
        if (regime_B == NEW).any():
            regime_B[regime_B == NEW] = len(signatures)
            signatures.append(ThumbnailStatistics())
            seen.append(0)
        trail = replace(trail, regime=int(regime_B[-1]))
        for regime in set(regime_B.tolist()):
            signatures[regime].add(z_BS[regime_B == regime])
            seen[regime] += int((regime_B == regime).sum())
    assert seen == pytest.approx([2200] * 3, abs=250)


def test_small_batches_open_no_more_regimes_than_there_may_be() -> None:
    assert taught(0, 1, 2, size=15, regimes=2).regimes == 2


def test_a_few_odd_samples_among_small_batches_open_no_regime() -> None:
    learner = taught(0, size=4)
    for which in (1, 0, 0, 2, 0, 0, 1, 0):
        learner.learn(*subject(which, 700 + which, 8 if which else 64))
    assert learner.regimes == 1


def test_the_trail_of_small_batches_is_part_of_the_state_and_no_samples_thumbnail() -> None:
    one, other = taught(0), Experts(LearnerContext(LAYOUT, options=OPTIONS))
    assert "trail" not in one.state().tensors
    (x_BCHW, y_B), rest = subject(1, 5, 1), subject(1, 6, 400)
    one.learn(x_BCHW, y_B)
    kept_S = one.state().tensors["trail"]
    assert (kept_S - Thumbnails(LAYOUT)(x_BCHW)[0]).abs().max() > 0.1
    other.load_state(one.state())
    for start in range(0, 400, 8):
        for learner in (one, other):
            learner.learn(rest[0][start : start + 8], rest[1][start : start + 8])
    assert (one.regimes, other.regimes) == (2, 2)
    ours, theirs = one.state(), other.state()
    assert ours.values == theirs.values
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)


def test_subjects_that_contradict_each_other_are_all_known_in_the_end() -> None:
    learner = taught(0, 1, 2)
    assert [accuracy(learner, which) for which in range(3)] == pytest.approx([1.0] * 3, abs=0.02)


def test_learning_another_subject_changes_no_sum_of_the_first() -> None:
    before = {name: tensor.clone() for name, tensor in taught(0).state().tensors.items()}
    after = taught(0, 1).state().tensors
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_in_a_gradual_switch_samples_are_assigned_one_by_one() -> None:
    learner = taught(0)
    for batch in range(32):
        (x_BCHW, y_B), (x_other, y_other) = subject(0, 500 + batch), subject(1, 500 + batch)
        others = 2 * batch
        x_BCHW[:others], y_B[:others] = x_other[:others], y_other[:others]
        learner.learn(x_BCHW, y_B)
    assert learner.regimes == 2
    assert [accuracy(learner, which) for which in range(2)] == pytest.approx([1.0] * 2, abs=0.02)


def test_memory_is_bounded_by_the_most_regimes() -> None:
    assert taught(0, 1, 2, 3, regimes=2).regimes == 2


def test_a_state_with_several_regimes_goes_on_identically() -> None:
    one, other = taught(0, 1), Experts(LearnerContext(LAYOUT, options=OPTIONS))
    other.load_state(one.state())
    for which in (1, 2, 0):
        for batch in range(10):
            x_BCHW, y_B = subject(which, 700 + batch)
            assert torch.equal(one.learn(x_BCHW, y_B).predicted_B, other.learn(x_BCHW, y_B).predicted_B)
    ours, theirs = one.state().tensors, other.state().tensors
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    x_BCHW, _ = subject(2, 999)
    assert torch.equal(one.predict_proba(x_BCHW), other.predict_proba(x_BCHW))


def test_a_loaded_learner_predicts_from_what_was_solved_for_every_regime_and_solves_nothing() -> None:
    one, other = taught(0, 1), Experts(LearnerContext(LAYOUT, options=OPTIONS))
    x_BCHW, y_B = subject(1, 999)
    one.predict_proba(x_BCHW)  # solves
    p_BK = one.predictor().predict_proba(x_BCHW)  # beside learning, where some CPUs sum in another order
    one.learn(x_BCHW, y_B)
    other.load_state(one.state())
    predictor = other.predictor()
    assert predictor.behind == len(y_B)
    assert torch.equal(predictor.predict_proba(x_BCHW), p_BK)


def test_a_loaded_learner_solves_for_a_new_regime_only_once_it_learns_on() -> None:
    one, other = taught(0), Experts(LearnerContext(LAYOUT, options=OPTIONS))
    x_BCHW, y_B = subject(1, 999)
    one.predict_proba(x_BCHW)  # solves
    p_BK = one.predictor().predict_proba(x_BCHW)
    one.learn(x_BCHW, y_B)
    assert one.regimes == 2
    other.load_state(one.state())
    predictor = other.predictor()
    assert predictor.behind == len(y_B)
    assert torch.equal(predictor.predict_proba(x_BCHW), p_BK)
    other.learn(x_BCHW, y_B)
    predictor = other.predictor()
    assert predictor.behind == 0
    assert torch.equal(predictor.predict_proba(x_BCHW), other.predict_proba(x_BCHW))


def test_only_the_regime_that_learns_has_another_mark() -> None:
    learner = taught(0, 1)
    before = learner.state()
    learner.learn(*subject(1, 999))
    after = learner.state()
    kept = {name for name, mark in after.marks.items() if mark is before.marks[name]}
    assert kept == {"0.A", "0.A_high"}
    assert set(after.marks) - kept == {"1.A", "1.A_high"}


def test_being_asked_changes_nothing_with_several_regimes() -> None:
    asked, left_alone = taught(0, 1), taught(0, 1)
    asked.predict_proba(subject(0, 999)[0])
    for which in (0, 1):
        batch = subject(which, 800)
        assert torch.equal(asked.learn(*batch).predicted_B, left_alone.learn(*batch).predicted_B)


def signature(z_BS: Tensor) -> ThumbnailStatistics:
    gaussian = ThumbnailStatistics()
    gaussian.add(z_BS)
    return gaussian


def gaussian(seed: int, count: int, mean: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z_BS = torch.randn(count, PIXELS, dtype=torch.float64, generator=generator) + mean
    return (100 * z_BS).round_()


@pytest.mark.parametrize("size", [16, 64, 512])
def test_batches_of_a_regime_are_strange_by_about_one_and_others_by_much_more(size: int) -> None:
    regime = signature(gaussian(0, 2000))
    own = [regime.t_squared(gaussian(seed, size)) for seed in range(1, 40)]
    assert 0.8 < sum(own) / len(own) < 1.2
    assert max(own) < 2.5
    assert regime.t_squared(gaussian(1, size, mean=0.7)) > 5


@given(shares=st.integers(12, 52))
@settings(max_examples=20, deadline=None)
def test_every_sample_of_a_mixture_gets_one_regime(shares: int) -> None:
    regimes = [signature(gaussian(0, SETTLED)), signature(gaussian(1, SETTLED, mean=4.0))]
    z_BS = torch.cat([gaussian(2, shares), gaussian(3, 64 - shares, mean=4.0)])
    assert assign(regimes, z_BS, room=True).tolist() == [0] * shares + [1] * (64 - shares)


def test_a_few_outliers_open_no_regime_and_many_strangers_do() -> None:
    regimes = [signature(gaussian(0, SETTLED))]
    few = torch.cat([gaussian(1, 60), gaussian(2, MIN_TO_OPEN - 1, mean=9.0)])
    assert assign(regimes, few, room=True).tolist() == [0] * len(few)
    many = torch.cat([gaussian(1, 60), gaussian(2, MIN_TO_OPEN, mean=9.0)])
    assert assign(regimes, many, room=True).tolist() == [0] * 60 + [NEW] * MIN_TO_OPEN
    assert assign(regimes, many, room=False).tolist() == [0] * len(many)


def test_thumbnails_that_never_vary_are_a_regime_too() -> None:
    black_BS = Thumbnails(Layout(height=28, width=28))(torch.zeros(600, 1, 28, 28, dtype=torch.uint8))
    assert assign([signature(black_BS)], black_BS[:32], room=True).tolist() == [0] * 32
    assert assign([signature(black_BS)], black_BS[:32] + 10, room=True).tolist() == [NEW] * 32


def recorded(*visits: int, size: int = 64) -> tuple[Experts, Tensor, Tensor, Tensor]:
    """A learner of 640 images of each subject in turn, with all images, labels and regimes."""
    learner = Experts(LearnerContext(LAYOUT, options=OPTIONS))
    parts = [subject(which, 100 * visit, 640) for visit, which in enumerate(visits)]
    x_NCHW, y_N = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    regimes: list[Tensor] = []
    for x_BCHW, y_B in zip(torch.split(x_NCHW, size), torch.split(y_N, size), strict=True):
        regime_B = learner.learn(x_BCHW, y_B).regime_B
        assert regime_B is not None
        regimes.append(regime_B)
    return learner, x_NCHW, y_N, torch.cat(regimes)


@pytest.mark.parametrize("size", [5, 64, 512])
def test_each_sample_is_in_the_sums_of_the_regime_that_learn_reports(size: int) -> None:
    learner, x_NCHW, y_N, regime_N = recorded(0, 1, 0, 2, size=size)
    assert set(regime_N.tolist()) == set(range(learner.regimes)) == {0, 1, 2}
    again = Assigned(3)
    again.learn_as(x_NCHW, y_N, regime_N)
    assert digest(again.sums(), "") == digest(learner.sums(), "")


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 10_000), gone=st.sampled_from([1, 100, 800]), size=st.sampled_from([5, 64]))
def test_what_is_forgotten_was_never_in_any_regime(seed: int, gone: int, size: int) -> None:
    learner, x_NCHW, y_N, regime_N = recorded(0, 1, size=size)
    order = torch.randperm(len(y_N), generator=torch.Generator().manual_seed(seed))
    out, rest = order[:gone], order[gone:]
    learner.unlearn(x_NCHW[out], y_N[out], regime_N[out])
    never = Assigned(2)
    never.learn_as(x_NCHW[rest], y_N[rest], regime_N[rest])
    assert digest(learner.sums(), "") == digest(never.sums(), "")
    unseen, _ = subject(1, 999, 100)
    assert torch.equal(learner.predict_proba(unseen), never.predict_proba(unseen))


def test_a_regime_can_be_forgotten_as_a_whole_and_learned_again() -> None:
    learner, x_NCHW, y_N, regime_N = recorded(0, 1, 2)
    gone_N = regime_N == 1
    learner.unlearn(x_NCHW[gone_N], y_N[gone_N], regime_N[gone_N])
    never = Assigned(2)
    kept_N = ~gone_N
    never.learn_as(x_NCHW[kept_N], y_N[kept_N], regime_N[kept_N].clamp_max(1))
    assert digest(learner.sums(), "") == digest(never.sums(), "")
    unseen, _ = subject(2, 999, 100)
    torch.testing.assert_close(
        learner.predict_proba(unseen), never.predict_proba(unseen), atol=1e-5, rtol=1e-4
    )
    for size in (1, 64):
        x_BCHW, y_B = subject(1, 500 + size, 640)
        for batch in zip(torch.split(x_BCHW, size), torch.split(y_B, size), strict=True):
            learner.learn(*batch)
    assert learner.regimes == 3
    assert accuracy(learner, 1) > 0.95


def test_all_regimes_can_be_forgotten() -> None:
    learner, x_NCHW, y_N, regime_N = recorded(0, 1)
    learner.unlearn(x_NCHW, y_N, regime_N)
    assert learner.sums() == {}
    torch.testing.assert_close(learner.predict_proba(x_NCHW[:2]), torch.full((2, 4), 0.25))
    learner.learn(x_NCHW[:5], y_N[:5])


def test_a_sample_cannot_be_forgotten_from_a_regime_that_it_cannot_be_in() -> None:
    learner, x_NCHW, y_N, _ = recorded(0, 1)
    before = digest(learner.sums(), "")
    one = x_NCHW[-1:], y_N[-1:]
    with pytest.raises(NeverLearned, match="there are 2 regimes, and it is not said"):
        learner.unlearn(*one)
    with pytest.raises(NeverLearned, match="there is no regime 2: there are 2"):
        learner.unlearn(*one, torch.tensor([2]))
    with pytest.raises(NeverLearned, match="leverage is above 1"):
        learner.unlearn(x_NCHW[[0, -1]], y_N[[0, -1]], torch.tensor([0, 0]))
    assert digest(learner.sums(), "") == before


def test_forgetting_leaves_no_thumbnail_in_the_trail() -> None:
    learner, x_NCHW, y_N, regime_N = recorded(0, 1, size=5)
    assert "trail" in learner.state().tensors
    learner.unlearn(x_NCHW[-1:], y_N[-1:], regime_N[-1:])
    assert "trail" not in learner.state().tensors


def test_all_regimes_together_have_the_same_sums_whatever_the_batches() -> None:
    """Which regime a sample is in depends on the batches; that it is in one does not."""
    totals = {digest(recorded(0, 1, 2, size=size)[0].total(), "") for size in (5, 64, 512)}
    whole = Assigned(1)
    _, x_NCHW, y_N, _ = recorded(0, 1, 2)
    whole.learn_as(x_NCHW, y_N, torch.zeros(len(y_N), dtype=torch.int64))
    assert totals == {digest(whole.total(), "")}


@settings(max_examples=6, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 150), min_size=10, max_size=24),
    ranks=st.integers(2, 4),
    pooled_after=st.sets(st.integers(0, 24)),
)
def test_ranks_find_the_regimes_of_one_learner_of_their_batches_in_one(
    sizes: list[int], ranks: int, pooled_after: set[int]
) -> None:
    alone, team = taught(), [taught() for _ in range(ranks)]
    batches = [subject(8 * number // len(sizes) % 3, number, size) for number, size in enumerate(sizes)]
    for x_BCHW, y_B in batches:
        alone.learn(x_BCHW, y_B)

    def act(rank: int, learner: Pools) -> None:
        assert isinstance(learner, Experts)
        learner.share(refresh=False)
        for number, (x_BCHW, y_B) in enumerate(batches):
            part = slice(rank * len(y_B) // ranks, (rank + 1) * len(y_B) // ranks)
            if len(y_B[part]):
                learner.learn(x_BCHW[part], y_B[part])
            else:
                learner.skip()
            if number in pooled_after:
                learner.pool()
        learner.pool()

    together(team, act)
    assert team[0].regimes == alone.regimes
    assert digest(team[0].sums(), "") == digest(alone.sums(), "")
    assert all(other.state().values == alone.state().values for other in team)
    unseen = subject(1, 99, 30)[0]
    assert torch.equal(team[0].predict_proba(unseen), alone.predict_proba(unseen))


def test_all_ranks_predict_from_the_solutions_of_all_regimes() -> None:
    alone, team = taught(), [taught(), taught()]
    predicted: dict[int, list[Tensor]] = {0: [], 1: []}
    batches = [subject(number // 12, number, 128) for number in range(24)]
    expected = [alone.learn(*batch).predicted_B for batch in batches]
    due = [False]

    def act(rank: int, learner: Pools) -> None:
        assert isinstance(learner, Experts)
        for x_BCHW, y_B in batches:
            if rank == 0:
                due[0] = learner.refresh_due(0)
            meet.wait()
            if due[0]:
                learner.pool()
                learner.share(refresh=True)
            meet.wait()
            part = slice(64 * rank, 64 * rank + 64)
            predicted[rank].append(learner.learn(x_BCHW[part], y_B[part]).predicted_B)

    meet = Barrier(2, timeout=60)
    together(team, act)
    assert team[0].regimes == 2
    together_B = [torch.cat(parts) for parts in zip(*predicted.values(), strict=True)]
    assert torch.equal(torch.cat(together_B), torch.cat(expected))


def test_a_rank_that_joins_later_has_all_but_the_sums() -> None:
    before, team = taught(0, 1), [taught(), taught()]
    team[0].load_state(before.state())
    together(team, lambda rank, learner: learner.share(refresh=False))
    ours, theirs = team[1].state(), before.state()
    assert ours.values == theirs.values
    for name, tensor in theirs.tensors.items():
        summed = name.rpartition(".")[2] in {"A", "A_high", "B"}
        assert torch.equal(ours.tensors[name], torch.zeros_like(tensor) if summed else tensor), name


def test_a_predictor_does_not_solve_from_the_sums_of_one_rank() -> None:
    team = [taught(), taught()]

    def act(rank: int, learner: Pools) -> None:
        assert isinstance(learner, Experts)
        learner.learn(*subject(0, rank))
        if rank == 0:
            assert learner.predictor().behind == 128
        learner.pool()
        if rank == 0:
            learner.predict_proba(subject(0, 9, 1)[0])
            assert learner.predictor().behind == 0

    together(team, act)
