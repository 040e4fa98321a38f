"""What a learner predicts with, as torch modules: uint8 images in, probabilities of the classes out.

Shapes: B batch, C channels, H height, W width, D features, K classes, R regimes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["LinearClassifier", "MixtureClassifier", "NetworkClassifier"]


class NetworkClassifier(nn.Module):
    """A network on images in −1 … 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return probabilities, float32 of shape [B, K], for uint8 images."""
        scores_BK: Tensor = self.network(x_BCHW.to(torch.float32) * (2 / 255) - 1)
        return scores_BK.softmax(1)


class LinearClassifier(nn.Module):
    """The softmax of (φᵀW + b) · ``scale`` of fixed features φ."""

    def __init__(self, features: nn.Module, W_DK: Tensor, b_K: Tensor, scale: float) -> None:
        super().__init__()
        self.features, self._scale = features, scale
        self.W, self.b = nn.Buffer(W_DK.detach().cpu().clone()), nn.Buffer(b_K.detach().cpu().clone())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return probabilities, float32 of shape [B, K], for uint8 images."""
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
        """Return probabilities, float32 of shape [B, K], for uint8 images."""
        features_BD: Tensor = self.features(x_BCHW)
        weights_BR = (features_BD @ self.gate * self._scale).softmax(1)
        p_RBK = (features_BD @ self.W * self._scale).softmax(2)
        return (weights_BR.T[:, :, None] * p_RBK).sum(0)
