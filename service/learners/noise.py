"""Gaussian noise from a key that moves on: the same noise after a restart, and no way back to it."""

import hashlib
import secrets
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

__all__ = ["KEY_BYTES", "RatchetNoise"]

KEY_BYTES: Final = 32


class RatchetNoise:
    """Draws normal numbers from SHAKE-256 of a key, and replaces the key by a hash of itself.

    A learner that is restored from a checkpoint and learns the same batches again draws the same
    noise again, so that what it releases a second time says nothing new. (It has to be the same
    batches: two different sums under one noise would give away their difference.) From a key, noise that was
    drawn before it cannot be found out; what comes after it can, so a key is as secret as the samples
    that will be learned with it.

    The numbers are 53-bit uniform ones through Box and Muller's transform, rounded to float32. What
    rounding gives away about a sum (Mironov 2012, On Significance of the Least Significant Bits for
    Differential Privacy) no formula here accounts for.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def seeded(cls, seed: int) -> Self:
        """Return noise that everybody can draw again who knows the seed."""
        return cls(hashlib.sha256(b"lethe noise seed %d" % seed).digest())

    @classmethod
    def secret(cls) -> Self:
        """Return noise from the operating system's randomness, that nobody knows."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def key(self) -> Tensor:
        """The key of the noise to come, uint8 of shape [32]."""
        return torch.tensor(list(self._key), dtype=torch.uint8)

    @key.setter
    def key(self, key: Tensor) -> None:
        self._key = bytes(key.tolist())

    def normal(self, *shape: int) -> Tensor:
        """Return independent standard normal numbers, float32 on the CPU, and move the key on."""
        count = int(np.prod(shape))
        pairs = (count + 1) // 2
        stream = hashlib.shake_256(b"lethe noise" + self._key).digest(16 * pairs)
        self._key = hashlib.sha256(b"lethe noise key" + self._key).digest()
        uniform = ((np.frombuffer(stream, "<u8") >> np.uint64(11)) + 1) * 2.0**-53  # above 0, up to 1
        radius = np.sqrt(-2 * np.log(uniform[:pairs]))
        angle = 2 * np.pi * uniform[pairs:]
        normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
        return torch.from_numpy(normal.astype(np.float32)).view(shape)
