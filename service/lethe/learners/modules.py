"""What a learner predicts with, as torch modules: samples in, probabilities of the classes out.

Samples are uint8 images [B, C, H, W] or float32 vectors [B, F].

Shapes: B batch, C channels, H height, W width, F numbers of a vector, D features, K classes, R regimes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["LinearClassifier", "MixtureClassifier", "NetworkClassifier", "ScaledPixels", "Standardised"]


class ScaledPixels(nn.Module):
    """Returns uint8 images as float32 in −1 … 1."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return float32 images."""
        return x_BCHW.to(torch.float32) * (2 / 255) - 1


class Standardised(nn.Module):
    """Returns vectors in units from a location, float64, ``farthest`` at most."""

    def __init__(self, location_F: Tensor, unit_F: Tensor, farthest: float) -> None:
        super().__init__()
        self._farthest = farthest
        self.location = nn.Buffer(location_F.detach().cpu().to(torch.float64).clone())
        self.unit = nn.Buffer(unit_F.detach().cpu().to(torch.float64).clone())

    def forward(self, x_BF: Tensor) -> Tensor:
        """Return standardised vectors, float64 of shape [B, F]."""
        moved_BF = (x_BF.to(torch.float64) - self.location) / self.unit
        return moved_BF.clamp(-self._farthest, self._farthest)


class NetworkClassifier(nn.Module):
    """A network, of what ``inputs`` make of samples."""

    def __init__(self, inputs: ScaledPixels | Standardised, network: nn.Module) -> None:
        super().__init__()
        self.inputs, self.network = inputs, network.eval()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return probabilities, float32 of shape [B, K]."""
        scores_BK: Tensor = self.network(self.inputs(x_BCHW).to(torch.float32))
        return scores_BK.softmax(1)


class LinearClassifier(nn.Module):
    """The softmax of (φᵀW + b) · ``scale`` of fixed features φ."""

    def __init__(self, features: nn.Module, W_DK: Tensor, b_K: Tensor, scale: float) -> None:
        super().__init__()
        self.features, self._scale = features, scale
        self.W, self.b = nn.Buffer(W_DK.detach().cpu().clone()), nn.Buffer(b_K.detach().cpu().clone())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return probabilities, float32 of shape [B, K]."""
        scores_BK: Tensor = (self.features(x_BCHW) @ self.W + self.b) * self._scale
        return scores_BK.softmax(1)


class MixtureClassifier(nn.Module):
    """The experts' softmax of φᵀW_r · ``scale``, weighted by that of the gate."""

    def __init__(self, features: nn.Module, gate_DR: Tensor, W_RDK: Sequence[Tensor], scale: float) -> None:
        super().__init__()
        self.features, self._scale = features, scale
        self.gate = nn.Buffer(gate_DR.detach().cpu().clone())
        self.W = nn.Buffer(torch.stack([W_DK.detach().cpu() for W_DK in W_RDK]))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return probabilities, float32 of shape [B, K]."""
        features_BD: Tensor = self.features(x_BCHW)
        weights_BR = (features_BD @ self.gate * self._scale).softmax(1)
        p_RBK = (features_BD @ self.W * self._scale).softmax(2)
        return (weights_BR.T[:, :, None] * p_RBK).sum(0)
