"""Exact samples of the discrete Gaussian: the noise of differentially private sums of integers.

N_ℤ(0, σ²) gives each integer x a probability proportional to exp(−x²/2σ²). It is sampled as Canonne,
Kamath & Steinke 2020 do (The Discrete Gaussian for Differential Privacy, algorithms 1 to 3), for many
numbers at once. No floating-point number takes part, and every comparison of a random number with a
probability is exact: where 32 random bits do not decide it, more are drawn.

Variances are powers of two, σ² = 2ᵛ: every exponent in the algorithms is then a fraction with a power of
two as its denominator, and fits in 64 bits.
"""

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_BITS", "Integers", "Uint32", "Words", "discrete_gaussian"]

Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Uint32 = npt.NDArray[np.uint32]
Uint64 = npt.NDArray[np.uint64]
Words = Callable[[int], Uint32]
"""Returns ``count`` independent uniform 32-bit numbers."""

MOST_BITS: Final = 50
"""The largest v for which all intermediate numbers fit in 64 bits."""

_WORD: Final = 32
_LARGEST: Final = 1 << 31
_AT_ONCE: Final = 1 << 15  # tries: their numbers stay in a core's cache
_KEPT: Final = 0.47  # of the tries, about


def discrete_gaussian(variance_bits: int, count: int, words: Words) -> Integers:
    """Return ``count`` independent samples of N_ℤ(0, 2ᵛ), v being ``variance_bits``, 0 to `MOST_BITS`.

    A sample y of the discrete Laplace distribution of scale t, a power of two near σ, is kept with
    probability exp(−(|y| − σ²/t)² / 2σ²) (algorithm 3). One of 2³¹ or more is drawn anew, which changes
    no probability by more than exp(−1900). Raises ValueError for another v.
    """
    if not 0 <= variance_bits <= MOST_BITS:
        raise ValueError(f"a variance of 2^{variance_bits}: 2^0 to 2^{MOST_BITS} are supported")
    scale_bits = (variance_bits + 1) // 2
    centre = 1 << (variance_bits - scale_bits)  # σ²/t
    found, missing = [np.empty(0, np.int64)], count
    while missing > 0:
        y = _discrete_laplace(scale_bits, min(_AT_ONCE, int(missing / _KEPT) + 16), words)
        z = np.abs(np.abs(y) - centre).astype(np.uint64)
        kept = y[_bernoulli_exp(z * z, variance_bits + 1, words)][:missing]
        found.append(kept)
        missing -= len(kept)
    return np.concatenate(found)


def _discrete_laplace(scale_bits: int, tries: int, words: Words) -> Integers:
    """Return independent samples with probabilities proportional to exp(−|y|/t), t = 2 ** scale_bits.

    They are those of the ``tries`` that succeed (algorithm 2): y is ±(u + t·n), where u below t has a
    probability proportional to exp(−u/t), and n one proportional to exp(−n).
    """
    drawn = words(tries)
    u = (drawn >> np.uint32(_WORD - scale_bits) if scale_bits else np.zeros_like(drawn)).astype(np.uint64)
    kept = _bernoulli_exp_of_fraction(u, scale_bits, words)
    negative = (drawn[kept] & np.uint32(1)).astype(np.bool_)  # the last bit: u takes the first 25 at most
    magnitude = u[kept].astype(np.int64)
    magnitude += _exponential_floor(len(magnitude), words) << scale_bits
    y = np.where(negative, -magnitude, magnitude)
    once = ~(negative & (magnitude == 0)) & (magnitude < _LARGEST)  # there is one zero, not two
    kept_y: Integers = y[once]
    return kept_y


def _bernoulli_exp(numerator: Uint64, bits: int, words: Words) -> Bools:
    """Return for each γ = numerator / 2 ** bits, at or above 0, true with probability exp(−γ)."""
    whole = (numerator >> np.uint64(bits)).astype(np.int64)
    true = np.ones(len(numerator), np.bool_)
    large = np.flatnonzero(whole)
    true[large] = _exponential_floor(len(large), words) >= whole[large]
    left = np.flatnonzero(true)
    true[left] = _bernoulli_exp_of_fraction(numerator[left] & np.uint64((1 << bits) - 1), bits, words)
    return true


def _bernoulli_exp_of_fraction(numerator: Uint64, bits: int, words: Words) -> Bools:
    """Return for each γ = numerator / 2 ** bits, at or above 0 and below 1, true with probability exp(−γ).

    Trials of probability γ/1, γ/2, γ/3 and so on go on until one fails; true where that is the first,
    the third, the fifth … (algorithm 1, after von Neumann).
    """
    true = np.ones(len(numerator), np.bool_)
    active, trial = np.flatnonzero(numerator), 1
    scaled = numerator << np.uint64(62 - bits)
    while len(active):
        active = active[_bernoulli(scaled[active], trial, words)]
        true[active] ^= True
        trial += 1
    return true


def _bernoulli(numerator: Uint64, k: int, words: Words) -> Bools:
    """Return for each p = numerator / (k · 2⁶²), below 1, true with probability p.

    That is where a uniform number of endless bits is below p. Its first 32 are enough unless they are
    those of p, once in 2³² times; then 30 more are, unless they are, too; then what is left of p decides.
    """
    whole = numerator // np.uint64(k)  # of p · 2⁶²
    first = (whole >> np.uint64(30)).astype(np.uint32)
    drawn = words(len(numerator))
    true: Bools = drawn < first
    for tied in np.flatnonzero(drawn == first):
        more, second = int(words(1)[0]) >> 2, int(whole[tied]) & ((1 << 30) - 1)
        true[tied] = more < second or (more == second and _below(k, words) < int(numerator[tied]) % k)
    return true


def _below(k: int, words: Words) -> int:
    """Return a uniform integer from 0 to k − 1."""
    while True:
        drawn = int(words(1)[0])
        if drawn < (1 << _WORD) // k * k:
            return drawn % k


def _exponential_floor(count: int, words: Words) -> Integers:
    """Return ``count`` independent n ≥ 0, of which n ≥ m has probability exp(−m) for every m.

    n is how many of e⁻¹, e⁻², e⁻³ … are above a uniform number of endless bits.
    """
    drawn, table = words(count), _exp_table()
    at = np.searchsorted(table, drawn, "left")  # how many of them are surely not above it
    n = (len(table) - at).astype(np.int64)
    for tied in np.flatnonzero(table[np.minimum(at, len(table) - 1)] == drawn):
        n[tied] = _exponential_floor_of(int(drawn[tied]), words)
    return n


@cache
def _exp_table() -> Uint32:
    """Return the first 32 bits of e⁻ⁿ, rising: … e⁻², e⁻¹. The first is 0, as are those of all before."""
    bits = [_exp_bits(n, _WORD, ROUND_FLOOR) for n in range(1, _WORD)]
    return np.array([0, *sorted(b for b in bits if b)], np.uint32)


def _exp_bits(n: int, bits: int, rounding: str) -> int:
    """Return e⁻ⁿ · 2 ** bits, rounded down or up to a whole number; ``decimal`` has exact rounding."""
    context = Context(prec=bits + 40, rounding=rounding)
    below_or_above = context.next_minus if rounding == ROUND_FLOOR else context.next_plus
    exact = below_or_above(context.exp(Decimal(-n)))
    return int(context.multiply(exact, Decimal(1 << bits)).to_integral_value(rounding))


def _exponential_floor_of(drawn: int, words: Words) -> int:
    """Return what `_exponential_floor` does for a number that begins with the 32 bits ``drawn``."""
    bits = _WORD
    while True:
        n = 0
        while drawn + 1 <= _exp_bits(n + 1, bits, ROUND_FLOOR):
            n += 1
        if drawn >= _exp_bits(n + 1, bits, ROUND_CEILING):
            return n
        drawn, bits = drawn << _WORD | int(words(1)[0]), bits + _WORD
