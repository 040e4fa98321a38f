"""The loss along the straight line between two points of weight space, and its quadratic approximation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad, grad_and_value

from lethe.experiments.anatomy.network import Images, Network

__all__ = ["Curvature", "Line", "curvature", "measure_line"]


@dataclass(frozen=True, slots=True)
class Line:
    """Loss and accuracy on one probe at θ(α) = (1 − α) θ_A + α θ_B."""

    alphas: list[float]
    loss: list[float]
    accuracy: list[float]

    @property
    def barrier(self) -> float:
        """How far the loss rises above the chord between both ends, in nats.

        Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis.
        """
        first, last = self.loss[0], self.loss[-1]
        chord = [(1 - alpha) * first + alpha * last for alpha in self.alphas]
        return max(loss - level for loss, level in zip(self.loss, chord, strict=True))


def measure_line(network: Network, from_V: Tensor, to_V: Tensor, images: Images, steps: int) -> Line:
    """Measure ``steps`` points of the line, both ends among them."""
    alphas = [place / (steps - 1) for place in range(steps)]
    measured = [network.measure(torch.lerp(from_V, to_V, alpha), images) for alpha in alphas]
    return Line(alphas, [point.loss for point in measured], [point.accuracy for point in measured])


@dataclass(frozen=True, slots=True)
class Curvature:
    """The second-order Taylor polynomial of the loss at θ, in the direction Δ."""

    loss: float
    slope: float
    """gᵀΔ."""
    quadratic: float
    """½ ΔᵀHΔ."""

    def at(self, alpha: float) -> float:
        """Return the polynomial at θ + α Δ."""
        return self.loss + alpha * self.slope + alpha**2 * self.quadratic


def curvature(
    network: Network, vector_V: Tensor, directions_DV: Sequence[Tensor], images: Images
) -> list[Curvature]:
    """Return the polynomial in each direction, by Hessian-vector products: the gradient of gᵀΔ."""
    count = len(images.y_N)
    loss = 0.0
    slopes = [0.0] * len(directions_DV)
    quadratics = [0.0] * len(directions_DV)
    for x_BCHW, y_B in images.chunks():

        def summed(theta_V: Tensor, x: Tensor = x_BCHW, y: Tensor = y_B) -> Tensor:
            return nn.functional.cross_entropy(network.scores(theta_V, x), y, reduction="sum")

        def slope(theta_V: Tensor, direction_V: Tensor, of: Callable[[Tensor], Tensor] = summed) -> Tensor:
            gradient_V: Tensor = grad(of)(theta_V)
            return gradient_V @ direction_V

        loss += float(summed(vector_V))
        for place, direction_V in enumerate(directions_DV):
            product_V, along = grad_and_value(slope)(vector_V, direction_V)
            slopes[place] += float(along)
            quadratics[place] += float(product_V.double() @ direction_V.double()) / 2
    return [
        Curvature(loss / count, slope / count, quadratic / count)
        for slope, quadratic in zip(slopes, quadratics, strict=True)
    ]
