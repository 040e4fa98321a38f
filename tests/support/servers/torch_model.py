"""A torch function to watch; the file that WATCHED_WEIGHTS names holds its weights, and may be replaced."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

__all__ = ["predict"]


def predict(x_BN: Any) -> torch.Tensor:
    """Return the scores of each class for images of shape [B, 784], from 0 to 1."""
    weights = load_file(Path(os.environ["WATCHED_WEIGHTS"]))
    return torch.from_numpy(x_BN) @ weights["weights"] + weights["bias"]
