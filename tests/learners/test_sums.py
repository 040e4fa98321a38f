"""Exact sums: the same bytes for the same samples, whatever the road."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lethe.learners.analytic import gram as gram_module
from lethe.learners.analytic.base import SumsLearner
from lethe.learners.analytic.gram import Gram
from lethe.learners.analytic.ncm import NCM
from lethe.learners.analytic.ridge import Ridge
from lethe.learners.analytic.slda import SLDA
from lethe.learners.base import LearnerContext
from lethe.wire import Layout
from tests.support.other_units import OTHER_UNITS, printed_with

CPU = torch.device("cpu")
LAYOUT = Layout(height=12, width=12, classes=4)
Kind = Callable[[LearnerContext], SumsLearner]
KINDS: Sequence[Kind] = (Ridge, SLDA, NCM)


def images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_NCHW = torch.randint(256, (count, *LAYOUT.shape), dtype=torch.uint8, generator=generator)
    return x_NCHW, torch.randint(LAYOUT.classes, (count,), generator=generator)


def learner(kind: Kind) -> SumsLearner:
    return kind(LearnerContext(LAYOUT, options={"waves": 600}))


def digest(sums: Mapping[str, Tensor]) -> str:
    return hashlib.sha256(b"".join(sums[name].numpy().tobytes() for name in sorted(sums))).hexdigest()


def sums_of(kind: Kind, x_NCHW: Tensor, y_N: Tensor, cuts: Sequence[int] = ()) -> str:
    one = learner(kind)
    for x, y in zip(x_NCHW.tensor_split(list(cuts)), y_N.tensor_split(list(cuts)), strict=True):
        if len(x):
            one.learn(x, y)
    return digest(one.sums())


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_order_batches_threads_restarts_and_merges_leave_one_hash(kind: Kind, data: st.DataObject) -> None:
    x_NCHW, y_N = images(300)
    whole = sums_of(kind, x_NCHW, y_N)
    order = torch.tensor(data.draw(st.permutations(range(300)), "order"))
    parts = data.draw(st.integers(1, 4), "learners")
    learners = [learner(kind) for _ in range(parts)]
    before = torch.get_num_threads()
    torch.set_num_threads(data.draw(st.sampled_from([1, 2]), "threads"))
    try:
        position = 0
        while position < 300:
            size = data.draw(st.sampled_from([1, 2, 7, 64, 300]), "batch")
            index = data.draw(st.integers(0, parts - 1), "learner")
            chosen = order[position : position + size]
            learners[index].learn(x_NCHW[chosen], y_N[chosen])
            position += size
            if data.draw(st.booleans(), "restart"):
                again = learner(kind)
                again.load_state(learners[index].state())
                learners[index] = again
        for other in learners[1:]:
            learners[0].merge(other.state())
    finally:
        torch.set_num_threads(before)
    assert digest(learners[0].sums()) == whole


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), gone=st.sampled_from([1, 10, 150]))
def test_what_is_forgotten_was_never_learned(kind: Kind, seed: int, gone: int) -> None:
    x_NCHW, y_N = images(300)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
    one = learner(kind)
    one.learn(x_NCHW, y_N)
    one.unlearn(x_NCHW[order[:gone]], y_N[order[:gone]])
    assert digest(one.sums()) == sums_of(kind, x_NCHW[order[gone:]], y_N[order[gone:]])


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_subtracted_leaves_the_other(kind: Kind) -> None:
    x_NCHW, y_N = images(200)
    one, part = learner(kind), learner(kind)
    one.learn(x_NCHW, y_N)
    part.learn(x_NCHW[:80], y_N[:80])
    one.subtract(part.state())
    assert digest(one.sums()) == sums_of(kind, x_NCHW[80:], y_N[80:])
    rest = learner(kind)
    rest.learn(x_NCHW[80:], y_N[80:])
    unseen, _ = images(20, seed=1)
    assert torch.equal(one.predict_proba(unseen), rest.predict_proba(unseen))


@OTHER_UNITS
def test_sums_are_the_same_with_other_units(environment: dict[str, str]) -> None:
    program = (
        "from tests.learners.test_sums import Ridge, images, sums_of; print(sums_of(Ridge, *images(300)))"
    )
    assert printed_with(environment, program) == sums_of(Ridge, *images(300))


def features(count: int, seed: int = 0, size: int = 700) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, (count, size), generator=generator).to(torch.int8)


def exact(phi_ND: Tensor) -> Tensor:
    return (phi_ND.double().T @ phi_ND.double()).triu()


def test_a_gram_matrix_of_several_panels_is_the_sum_of_products() -> None:
    gram, phi = Gram(700, CPU), features(900)
    gram.add(phi[:7])
    gram.add(phi[7:])
    assert torch.equal(gram.upper().triu(), exact(phi))


def test_gram_matrices_are_added_with_weights() -> None:
    gram, phi = Gram(700, CPU), features(900)
    gram.add(phi)
    total_DD = torch.eye(700, dtype=torch.float64)
    gram.add_to(total_DD, 0.375)
    assert torch.equal(total_DD.triu(), torch.eye(700) + 0.375 * exact(phi))


def extremes(samples: int) -> Tensor:
    """Return features whose sums are as far from 0 as they can be, on either side."""
    return torch.tensor([[127, -127, 127]], dtype=torch.int8).repeat(samples, 1)


def gram_of(phi_ND: Tensor) -> Gram:
    gram = Gram(phi_ND.shape[1], CPU)
    gram.add(phi_ND)
    return gram


def assert_same(gram: Gram, other: Gram) -> None:
    gram.fold()
    other.fold()
    assert torch.equal(gram.low, other.low)
    assert torch.equal(gram.high, other.high)
    assert gram.high.dtype == other.high.dtype


def test_what_does_not_fit_into_int32_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after billions of samples, with a smaller carry."""
    largest = extremes(200_000)
    gram = gram_of(largest)
    assert torch.equal(gram.upper().triu(), exact(largest))
    monkeypatch.setattr(gram_module, "_BYTE_SAMPLES", 150_000)
    gram.fold()
    assert gram.high.dtype == torch.int32
    gram.add(largest)
    gram.subtract(largest)
    gram.subtract(largest[:60_000])
    gram.fold()
    assert gram.high.dtype == torch.int8
    assert_same(gram, gram_of(largest[:140_000]))
    assert torch.equal(gram.upper().triu(), exact(largest[:140_000]))


def test_sums_of_few_samples_are_int32_alone() -> None:
    few, more = gram_of(extremes(133_144)), gram_of(extremes(133_145))
    for gram, high in ((few, 0), (more, len(more.low))):
        gram.fold()
        assert len(gram.high) == high
        assert torch.equal(gram.upper().triu(), exact(extremes(gram.samples)))
    more.subtract(extremes(1))
    assert_same(more, few)  # no trace of what was unlearned
    few.add(extremes(70_000))
    few.subtract(extremes(70_000))
    assert_same(more, few)
    assert not len(few.high)


@pytest.mark.parametrize(("samples", "others"), [(60_000, 70_000), (100_000, 100_000), (1, 200_000)])
def test_merged_sums_are_those_of_one_learner(samples: int, others: int) -> None:
    merged, other = gram_of(extremes(samples)), gram_of(extremes(others))
    merged.merge(other)
    assert_same(merged, gram_of(extremes(samples + others)))
    merged.merge(other, -1)
    assert_same(merged, gram_of(extremes(samples)))


def test_high_parts_of_few_samples_are_loaded() -> None:
    """States of earlier versions have them."""
    expected, loaded = gram_of(extremes(100_000)), Gram(3, CPU)
    whole = expected.low.to(torch.int64)
    high = (whole + (1 << 29)) >> 30
    assert high.any()
    loaded.load((whole - (high << 30)).to(torch.int32), high.to(torch.int8), 100_000)
    assert_same(loaded, expected)
