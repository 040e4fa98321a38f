"""Was the readout lost or the representation? A linear readout fitted anew on frozen features says.

Shapes: N images, F features, K classes.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from lethe.experiments.anatomy.network import Images, Network

__all__ = ["PENALTY", "Diagnosis", "Readout", "diagnose", "fit_readout"]

PENALTY: Final = 1e-3
"""λ of the penalty ½λ‖W‖²; it makes the optimum unique."""
ITERATIONS: Final = 300


@dataclass(frozen=True, slots=True)
class Readout:
    """Multinomial logistic regression on standardised features."""

    mean_F: Tensor
    deviation_F: Tensor
    W_FK: Tensor
    b_K: Tensor

    def accuracy(self, features_NF: Tensor, y_N: Tensor) -> float:
        """Return the accuracy on features."""
        scores_NK = _standardised(features_NF, self.mean_F, self.deviation_F) @ self.W_FK + self.b_K
        return float((scores_NK.argmax(1) == y_N).double().mean())


def fit_readout(features_NF: Tensor, y_N: Tensor, classes: int) -> Readout:
    """Minimise mean cross entropy + ½λ‖W‖², which is convex, by L-BFGS."""
    mean_F, deviation_F = features_NF.double().mean(0), features_NF.double().std(0, correction=0)
    x_NF = _standardised(features_NF, mean_F, deviation_F)
    W_FK = torch.zeros(x_NF.shape[1], classes, dtype=torch.float64, requires_grad=True)
    b_K = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [W_FK, b_K],
        max_iter=ITERATIONS,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(x_NF @ W_FK + b_K, y_N) + PENALTY / 2 * W_FK.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call] # torch leaves it untyped
    return Readout(mean_F, deviation_F, W_FK.detach(), b_K.detach())


def _standardised(features_NF: Tensor, mean_F: Tensor, deviation_F: Tensor) -> Tensor:
    return (features_NF.double() - mean_F) / deviation_F.clamp_min(1e-8)  # a dead unit stays 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Accuracies on the second half of the old probe, by the network's own readout and by one fitted anew.

    The new readouts are fitted on the first half, on frozen features. Davari et al. 2022, Probing
    Representation Forgetting in Supervised and Unsupervised Continual Learning.
    """

    before: float
    after: float
    refitted_before: float
    refitted_after: float
    refitted_untrained: float
    """On the features of the untrained network: what a readout reaches without any representation learned."""

    @property
    def lost(self) -> float:
        """Accuracy that the network lost."""
        return self.before - self.after

    @property
    def recovered(self) -> float:
        """Accuracy that a new readout recovers."""
        return self.refitted_after - self.after

    @property
    def representation(self) -> float:
        """Accuracy that a new readout has lost: what the features no longer separate."""
        return self.refitted_before - self.refitted_after


def diagnose(
    network: Network,
    before_V: Tensor,
    after_V: Tensor,
    untrained_V: Tensor,
    halves: tuple[Images, Images],
    classes: int,
) -> Diagnosis:
    """Fit readouts on the first of both ``halves`` of the old probe and measure all on the second."""
    fitting, held_out = halves
    refitted = [
        fit_readout(network.features(vector_V, fitting), fitting.y_N, classes).accuracy(
            network.features(vector_V, held_out), held_out.y_N
        )
        for vector_V in (before_V, after_V, untrained_V)
    ]
    own = [network.measure(vector_V, held_out).accuracy for vector_V in (before_V, after_V)]
    return Diagnosis(*own, *refitted)
