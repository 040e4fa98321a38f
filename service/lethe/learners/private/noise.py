"""Discrete Gaussian noise from a ratcheting key: a later key does not reveal earlier noise."""

import hashlib
import math
import secrets
from collections.abc import Mapping
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

from lethe.learners.private.discrete_gaussian import Uint32, discrete_gaussian

__all__ = ["KEY_BYTES", "RatchetNoise"]

KEY_BYTES: Final = 32


class RatchetNoise:
    """Draws discrete Gaussian noise from SHAKE-256 of a key, and replaces the key by a hash of itself.

    Each draw has its own key, and no earlier key can be computed from a later one.

    The key of secret noise comes from the operating system and is never written: no state contains it, and
    every process draws another one. So the noise of a restarted process is independent of all noise before,
    whichever records its batches hold. (`lethe.learners.private.base` states what a second release costs.)

    Seeded noise continues bit for bit from the key in the state. Anyone with the seed can compute all of it:
    it makes experiments repeatable and protects nothing.
    """

    def __init__(self, key: bytes, secret: bool = False) -> None:
        self._key = key
        self.secret = secret
        """Whether the key is secret, so that the noise cannot be drawn again."""

    @classmethod
    def seeded(cls, seed: int) -> Self:
        """Return noise that can be drawn again with the seed."""
        return cls(hashlib.sha256(b"lethe noise seed %d" % seed).digest())

    @classmethod
    def from_system(cls) -> Self:
        """Return secret noise, from the operating system's randomness."""
        return cls(secrets.token_bytes(KEY_BYTES), secret=True)

    def state(self) -> dict[str, Tensor]:
        """Return the key, uint8 of shape [32], as part of a state; nothing for secret noise."""
        return {} if self.secret else {"key": torch.tensor(list(self._key), dtype=torch.uint8)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from the key in ``tensors``; secret noise keeps its own."""
        if not self.secret:
            self._key = bytes(tensors["key"].tolist())

    def draw(self, variance_bits: int, *shape: int) -> Tensor:
        """Return independent samples of N_ℤ(0, 2 ** variance_bits), int64 on the CPU, and advance the key."""
        noise = discrete_gaussian(variance_bits, math.prod(shape), _Words(self._key))
        self._key = hashlib.sha256(b"lethe noise key" + self._key).digest()
        return torch.from_numpy(noise).view(shape)


class _Words:
    """Uniform 32-bit numbers: SHAKE-256 of the key and the number of the call."""

    def __init__(self, key: bytes) -> None:
        self._key, self._calls = key, 0

    def __call__(self, count: int) -> Uint32:
        self._calls += 1
        stream = hashlib.shake_256(b"lethe noise" + self._key + self._calls.to_bytes(8, "little"))
        return np.frombuffer(stream.digest(4 * count), "<u4")
