"""Networks of users: some can be trained, some cannot."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lethe.wire import Layout


def plain(layout: Layout) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(layout.size, 32), nn.ReLU(), nn.Linear(32, layout.classes))


def dropout(layout: Layout) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(layout.size, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, layout.classes)
    )


def batch_norm(layout: Layout) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(layout.size, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Linear(64, layout.classes),
    )


def both(layout: Layout) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(layout.size, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(64, layout.classes),
    )


def convolutional(layout: Layout) -> nn.Module:
    """A normalisation of maps: each channel of a single image has a variance."""
    return nn.Sequential(
        nn.Conv2d(layout.channels, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, layout.classes),
    )


def residual(layout: Layout) -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.resnet18(num_classes=layout.classes)
    model.conv1 = nn.Conv2d(layout.channels, 64, 3, padding=1)
    return model


class Shared(nn.Module):
    """Two layers with one weight."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.first, self.second = (nn.Linear(layout.size, layout.size) for _ in range(2))
        self.second.weight = self.first.weight
        self.last = nn.Linear(layout.size, layout.classes)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.second(self.first(x.flatten(1)).relu()).relu())


def lazy(layout: Layout) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.LazyLinear(16), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(layout.classes)
    )


def spectral(layout: Layout) -> nn.Module:
    normed = nn.utils.parametrizations.spectral_norm(nn.Linear(layout.size, layout.classes))
    return nn.Sequential(nn.Flatten(), normed)


class _OneLayer(nn.Module):
    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.last = nn.Linear(layout.size, layout.classes)

    def scores(self, x: Tensor) -> Tensor:
        scores_BK: Tensor = self.last(x.flatten(1))
        return scores_BK

    def forward(self, x: Tensor) -> Any:
        return self.scores(x)


class Frozen(_OneLayer):
    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.first = nn.Linear(layout.size, layout.size).requires_grad_(requires_grad=False)

    def forward(self, x: Tensor) -> Any:
        return self.scores(self.first(x.flatten(1)).relu())


class Unused(_OneLayer):
    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.unused = nn.Linear(3, 3)


class Mean(_OneLayer):
    """Subtracts a running mean of its inputs, a buffer that each batch replaces."""

    persistent = True
    mean: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.register_buffer("mean", torch.zeros(layout.size), persistent=self.persistent)

    def forward(self, x: Tensor) -> Any:
        x = x.flatten(1)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.scores(x - self.mean)


class Warmed(_OneLayer):
    """Differs in training mode only from its thousandth pass on, which no check can find out."""

    passes: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Any:
        if self.training and self.passes >= 1000:
            return -self.scores(x)
        return self.scores(x)


class NotPersistent(Mean):
    persistent = False


class Attribute(_OneLayer):
    """The same mean in a plain attribute."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.seen = torch.zeros(layout.size)

    def forward(self, x: Tensor) -> Any:
        x = x.flatten(1)
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * x.detach().mean(0)
        return self.scores(x - self.seen)


class Counting(_OneLayer):
    """A schedule that depends on the number of passes, counted in a plain attribute."""

    passes = 0

    def forward(self, x: Tensor) -> Any:
        if self.training:
            self.passes += 1
        return self.scores(x) / (1 + self.passes)


class Extra(_OneLayer):
    def get_extra_state(self) -> object:
        return {"about": "anything"}

    def set_extra_state(self, state: object) -> None:
        pass


class Complex(_OneLayer):
    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.register_buffer("waves", torch.zeros(3, dtype=torch.complex64))


class Tuple(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x), x


class TupleInTraining(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return (self.scores(x), x) if self.training else self.scores(x)


class Squeezing(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x).squeeze()


class Summing(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x).sum(0)


class Detached(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x).detach()


class Infinite(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x) / 0


class AnswersDouble(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x).double()


class WritesIntoImages(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x.mul_(2))


class AlwaysDropping(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return nn.functional.dropout(self.scores(x))


class LearnsFromPredictions(Mean):
    def forward(self, x: Tensor) -> Any:
        self.mean = self.mean + 1
        return self.scores(x)


class RollsNumPy(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x) * (1 + np.random.rand() if self.training else 1)


class RollsPython(_OneLayer):
    def forward(self, x: Tensor) -> Any:
        return self.scores(x) * (1 + random.random() if self.training else 1)


class OwnNormalisation(_OneLayer):
    """A custom normalisation that needs more than one image."""

    def forward(self, x: Tensor) -> Any:
        if self.training and len(x) == 1:
            raise ValueError("more than one image is needed")
        return self.scores(x)


class NeverInitialised(_OneLayer):
    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.unused = nn.LazyLinear(3)


class ChannelsFirst(_OneLayer):
    """Accepts only images whose channels come first in memory."""

    def forward(self, x: Tensor) -> Any:
        return self.last(x.view(len(x), -1))


def double(layout: Layout) -> nn.Module:
    return plain(layout).double()


def too_many(layout: Layout) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(layout.size, layout.classes + 3))


def too_large(layout: Layout) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(layout.size + 1, layout.classes))


def all_frozen(layout: Layout) -> nn.Module:
    return plain(layout).requires_grad_(requires_grad=False)


def hooked(layout: Layout) -> nn.Module:
    """A weight computed by a hook of torch's old kind: it cannot be copied."""
    return nn.Sequential(nn.Flatten(), nn.utils.spectral_norm(nn.Linear(layout.size, layout.classes)))
