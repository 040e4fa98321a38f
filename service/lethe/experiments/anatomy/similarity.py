"""Linear CKA of two sets of activations, from minibatches.

Shapes: B images of a minibatch, F features of one side, G of the other.
"""

from collections.abc import Iterable
from math import sqrt
from typing import Final

from torch import Tensor

__all__ = ["MINIBATCH", "linear_cka"]

MINIBATCH: Final = 250
"""Images of a minibatch: a pair of its Gram matrices takes 1 MB, whatever the width of the layer."""


def linear_cka(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the linear centred kernel alignment of activations [B, F] and [B, G]; 1 is the same geometry.

    Kornblith et al. 2019, Similarity of Neural Network Representations Revisited; from the unbiased HSIC of
    minibatches (Nguyen et al. 2021, Do Wide and Deep Networks Learn the Same Things?), so that memory does
    not grow with the number of images. Each minibatch needs at least 4 images.
    """
    first = second = both = 0.0
    for x_BF, y_BG in pairs:
        k_BB, l_BB = _gram(x_BF), _gram(y_BG)
        both += _hsic(k_BB, l_BB)
        first += _hsic(k_BB, k_BB)
        second += _hsic(l_BB, l_BB)
    return both / sqrt(first * second)


def _gram(x_BF: Tensor) -> Tensor:
    """Return the Gram matrix with a diagonal of zeros; centring first changes nothing but the rounding."""
    centred_BF = x_BF - x_BF.mean(0)
    return (centred_BF @ centred_BF.T).double().fill_diagonal_(0)


def _hsic(k_BB: Tensor, l_BB: Tensor) -> float:
    """Return the unbiased HSIC_1: Song et al. 2012, Feature Selection via Dependence Maximization."""
    n = len(k_BB)
    if n < 4:
        raise ValueError(f"a minibatch of {n} images: the unbiased HSIC needs 4")
    k_B, l_B = k_BB.sum(0), l_BB.sum(0)
    value = (k_BB * l_BB).sum() + k_B.sum() * l_B.sum() / ((n - 1) * (n - 2)) - 2 * (k_B @ l_B) / (n - 2)
    return float(value / (n * (n - 3)))
