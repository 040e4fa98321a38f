"""The change-point test: what it compares, that no shift contaminates the reference, and exact restarts."""

import json
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from lethe.drift.features import Numbers
from lethe.drift.shift_statistic import BLOCK, SETTLED, WINDOW, ShiftTest, ShiftTestState, Split

STATE = TypeAdapter(ShiftTestState)
THRESHOLD = 15.0
LEAST = 0.02**2


def noise(seed: int, blocks: int, mean: float = 0.0, features: int = 6) -> Numbers:
    """Samples of blocks, of shape [blocks, 64, F]."""
    return np.random.default_rng(seed).normal(mean, 1.0, (blocks, BLOCK, features))


def run(test: ShiftTest, samples_KBF: Numbers) -> list[tuple[int, Split]]:
    """Run the test over blocks, restarting after each shift; return each shift and the end of its block."""
    found = []
    for block_BF in samples_KBF:
        test.add(len(block_BF), block_BF.sum(0), np.square(block_BF).sum(0))
        split = test.find()
        if split is not None:
            found.append((test.end, split))
            test.restart(split.after)
    return found


def by_definition(blocks: list[Numbers]) -> tuple[float, int]:
    """The largest excess over the splits, computed sample by sample, and how many blocks are before it."""
    means_KF = np.array([block.mean(0) for block in blocks])
    best = (-np.inf, 0)
    for split in range(1, len(blocks)):
        if len(blocks) - split > WINDOW - (len(blocks) <= WINDOW):
            continue
        one, other = np.concatenate(blocks[:split]), np.concatenate(blocks[split:])
        if len(one) < SETTLED:
            continue
        within = ((one - one.mean(0)) ** 2).sum(0) + ((other - other.mean(0)) ** 2).sum(0)
        variance = np.maximum(within / (len(one) + len(other)), LEAST)
        shift = (other.mean(0) - one.mean(0)) ** 2 / (variance * (1 / len(one) + 1 / len(other)))
        steps = [
            (means_KF[k] - means_KF[k - 1]) ** 2 / (1 / len(blocks[k]) + 1 / len(blocks[k - 1]))
            for k in range(1, len(blocks))
            if k not in (split - 1, split, split + 1)
        ]
        dispersion = max(1.0, float((np.mean(steps, axis=0) / variance).mean()) if steps else 1.0)
        excess = float(shift.mean()) / dispersion - len(other) / BLOCK
        best = max(best, (excess, split))
    return best


@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.sampled_from([64, 64, 100, 256]), min_size=2, max_size=3 * WINDOW),
    shift=st.floats(0, 3),
    share=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_the_split_is_that_of_the_definition(
    seed: int, counts: list[int], shift: float, share: float
) -> None:
    rng, at = np.random.default_rng(seed), round(share * len(counts))
    blocks = [rng.normal(shift * (k >= at), 1.0, (count, 4)) for k, count in enumerate(counts)]
    excess, split = by_definition(blocks)
    for threshold in (excess - 1e-6, excess + 1e-6) if np.isfinite(excess) else (0.0,):
        test = ShiftTest(threshold, LEAST)
        for block in blocks:
            test.add(len(block), block.sum(0), np.square(block).sum(0))
        ends = [0, *accumulate(counts)]
        wanted = Split(ends[split - 1], ends[split + 1]) if threshold < excess else None
        assert test.find() == wanted


def test_a_shift_is_located_and_the_next_one_is_found_after_the_minimum_of_samples() -> None:
    stream_KBF = np.concatenate([noise(k, 9, mean=float(k % 2)) for k in range(12)])
    found = run(ShiftTest(THRESHOLD, LEAST), stream_KBF)
    assert [split for _, split in found] == [
        Split(BLOCK * (9 * k - 1), BLOCK * (9 * k + 1)) for k in range(1, 12)
    ]
    assert all(at <= split.after + BLOCK for at, split in found)


@pytest.mark.parametrize("mixed", [8, 32, 56])
def test_a_block_that_holds_the_switch_is_part_of_neither_side(mixed: int) -> None:
    stream_KBF = np.concatenate([noise(0, 20), noise(1, 30, mean=3.0)])
    stream_KBF[20, :mixed] -= 3.0
    test = ShiftTest(THRESHOLD, LEAST)
    ((_, split),) = run(test, stream_KBF)
    assert split.before <= 20 * BLOCK + mixed <= split.after
    assert np.array(test.before(test.end).sums) / test.count == pytest.approx(3.0, abs=0.15)


def test_a_segment_too_short_to_be_detected_costs_no_later_one() -> None:
    lengths = [30, 4, 30, 30, 30]
    stream_KBF = np.concatenate([noise(k, blocks, float(k % 2)) for k, blocks in enumerate(lengths)])
    ends = [BLOCK * end for end in accumulate(lengths)]
    found = [at for at, _ in run(ShiftTest(THRESHOLD, LEAST), stream_KBF)]
    for switch in ends[2:-1]:
        assert any(switch < at <= switch + 2 * BLOCK for at in found)


@pytest.mark.parametrize("length", [4, 16, 32])
def test_correlated_samples_are_not_a_shift(length: int) -> None:
    rng = np.random.default_rng(length)
    kinds_CF = rng.normal(0, 1, (10, 6))
    runs = rng.integers(0, 10, 40_000 // length).repeat(length)
    samples_NF = kinds_CF[runs] + rng.normal(0, 0.5, (len(runs), 6))
    blocks = len(samples_NF) // BLOCK
    assert run(ShiftTest(THRESHOLD, LEAST), samples_NF[: blocks * BLOCK].reshape(blocks, BLOCK, 6)) == []


def test_a_drift_of_less_than_an_eighth_of_a_deviation_is_not_a_shift() -> None:
    stream_KBF = noise(0, 2000)
    stream_KBF[1000:] += 0.1
    assert run(ShiftTest(THRESHOLD, LEAST), stream_KBF) == []
    stream_KBF[1000:] += 0.2
    assert len(run(ShiftTest(THRESHOLD, LEAST), stream_KBF)) == 1


def test_if_only_rises_count_a_fall_is_not_a_shift() -> None:
    falls, rises = (np.concatenate([noise(0, 20), noise(1, 20, mean)]) for mean in (-1.0, 1.0))
    assert run(ShiftTest(THRESHOLD, LEAST, rises=True), falls) == []
    assert len(run(ShiftTest(THRESHOLD, LEAST, rises=True), rises)) == 1


@given(cut=st.integers(0, 60), keeps=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_test_restored_from_json_continues_identically(cut: int, keeps: bool) -> None:
    stream_KBF = np.concatenate([noise(k, 20, mean=float(k % 2)) for k in range(3)])
    whole, first, second = (ShiftTest(THRESHOLD, LEAST, keeps=keeps) for _ in range(3))
    before = run(first, stream_KBF[:cut])
    second.load_state(STATE.validate_python(json.loads(json.dumps(STATE.dump_python(first.state())))))
    assert before + run(second, stream_KBF[cut:]) == run(whole, stream_KBF)
    assert second.state() == whole.state()


def test_memory_does_not_grow_with_the_stream() -> None:
    test = ShiftTest(THRESHOLD, LEAST)
    run(test, noise(0, 5 * WINDOW))
    assert len(test.state().rows) == WINDOW + 2
    assert test.count == 5 * WINDOW * BLOCK
