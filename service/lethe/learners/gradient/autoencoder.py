"""A small convolutional variational autoencoder (Kingma & Welling 2014, Auto-Encoding Variational Bayes).

Shapes: B batch, C channels, H height, W width, Z latent numbers.
"""

import math
from typing import Final

import torch
from torch import Tensor, nn

from lethe.wire import Layout

__all__ = ["Autoencoder"]

_WIDTH: Final = 32  # channels of the maps within


class Autoencoder(nn.Module):
    """Encoder and decoder of two convolutions each, Gaussian latent variables, Bernoulli pixels.

    Images are float32 in −1 … 1, which maps to 0 … 1 of the Bernoulli likelihood.
    """

    def __init__(self, layout: Layout, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self._size = (layout.height, layout.width)
        self._coarse = (_WIDTH, math.ceil(layout.height / 4), math.ceil(layout.width / 4))
        flat = math.prod(self._coarse)
        self._encode = nn.Sequential(
            nn.Conv2d(layout.channels, _WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(flat, 2 * latent),
        )
        self._decode = nn.Sequential(
            nn.Linear(latent, flat),
            nn.ReLU(),
            nn.Unflatten(1, self._coarse),
            nn.ConvTranspose2d(_WIDTH, _WIDTH, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(_WIDTH, layout.channels, 4, stride=2, padding=1),
        )

    def loss(self, x_BCHW: Tensor, noise_BZ: Tensor) -> Tensor:
        """Return the negative evidence lower bound, the mean over the batch, in nats per pixel."""
        mean_BZ, log_variance_BZ = self._encode(x_BCHW).chunk(2, 1)
        logits_BCHW = self._logits(mean_BZ + noise_BZ * (log_variance_BZ / 2).exp())
        target_BCHW = (x_BCHW + 1) / 2
        wrong = nn.functional.binary_cross_entropy_with_logits(logits_BCHW, target_BCHW, reduction="sum")
        divergence = (mean_BZ**2 + log_variance_BZ.exp() - 1 - log_variance_BZ).sum() / 2
        loss: Tensor = (wrong + divergence) / x_BCHW.numel()
        return loss

    def draw(self, noise_BZ: Tensor) -> Tensor:
        """Return the images of latent vectors, [B, C, H, W] in −1 … 1."""
        with torch.no_grad():
            return self._logits(noise_BZ).sigmoid().mul_(2).sub_(1)

    def _logits(self, latent_BZ: Tensor) -> Tensor:
        height, width = self._size
        logits_BCHW: Tensor = self._decode(latent_BZ)[:, :, :height, :width]
        return logits_BCHW
