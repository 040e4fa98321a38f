"""An attacker who knows the rest of a batch, and both records that the last one may be, audits ε.

Two attacks on the weights after one batch: by how far they lie along the difference that the record makes,
which is the best test against Gaussian noise, and by which numbers the noise can have left at all (Mironov
2012, On Significance of the Least Significant Bits for Differential Privacy).
"""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm
from torch import Tensor

from lethe.learners.base import LearnerContext
from lethe.learners.private.accounting import epsilon_of
from lethe.learners.private.dp_finetune import DPFinetune
from lethe.learners.private.noise import RatchetNoise
from lethe.learners.state import State
from lethe.wire import Layout

BATCH = 64
EPSILON, DELTA = 4.0, 1e-5


@dataclass
class Audit:
    """A learner that is trained from the start again and again, and its two batches."""

    learner: DPFinetune
    blank: State
    x_CBCHW: Tensor
    y_CB: Tensor

    @classmethod
    def begin(cls) -> "Audit":
        dice = np.random.default_rng(1)
        x_BCHW = torch.from_numpy(dice.integers(0, 256, (BATCH, 1, 28, 28), dtype=np.uint8))
        y_B = torch.from_numpy(dice.integers(0, 10, BATCH).astype(np.int64))
        x_CBCHW, y_CB = torch.stack([x_BCHW, x_BCHW]), torch.stack([y_B, y_B])
        x_CBCHW[:, 3] = 0
        x_CBCHW[0, 3, 0, ::2] = 255
        x_CBCHW[1, 3, 0, :, ::2] = 255
        y_CB[:, 3] = torch.tensor([1, 2])
        learner = DPFinetune(LearnerContext(Layout(), options={"epsilon": EPSILON, "delta": DELTA}))
        tensors = {name: tensor.clone() for name, tensor in learner.state().tensors.items()}
        return cls(learner, State(tensors, learner.state().values), x_CBCHW, y_CB)

    def sum_of(self, candidate: int) -> Tensor:
        """What the attacker computes of a candidate: the sum, in units of the grid."""
        features_BD = self.learner._features(self.x_CBCHW[candidate])
        return self.learner._clipped(features_BD, torch.zeros(BATCH, 10), self.y_CB[candidate])

    def weights(self, candidate: int) -> Tensor:
        """The weights after the batch with that candidate, under secret noise."""
        self.learner.load_state(self.blank)
        self.learner._noise = RatchetNoise.from_system()
        self.learner.learn(self.x_CBCHW[candidate], self.y_CB[candidate])
        return self.learner.state().tensors["weight"].clone()

    @property
    def unit(self) -> float:
        """Of the grid, in the weights."""
        return self.learner._options.clip / self.learner._grid.reach / BATCH

    def unexplained(self, weight_KD: Tensor, sum_KD: Tensor) -> int:
        """How many weights no noise on the grid gives, if the sum is this one."""
        noise_KD = (-weight_KD.double() / self.unit).round() - sum_KD
        return int((((noise_KD.round() + sum_KD) * self.unit).float().neg() != weight_KD).sum())


def unexplained_by_floats(noisy: Tensor, mean: Tensor, scale: float) -> int:
    """The same of float32 noise, a normal number times ``scale``, on a float32 mean."""
    noise = (noisy.double() - mean.double()).float()
    explained = torch.zeros_like(noise, dtype=torch.bool)
    for near in nearby(noise, 4):
        normal = (near.double() / scale).float()
        drawn = torch.stack([(z * scale) == near for z in nearby(normal, 2)]).any(0)
        explained |= drawn & ((mean + near) == noisy)
    return int((~explained).sum())


def nearby(x: Tensor, steps: int) -> list[Tensor]:
    """The float32 numbers that are so many steps from each, or fewer."""
    found = [x]
    for towards in (math.inf, -math.inf):
        y = x
        for _ in range(steps):
            y = torch.nextafter(y, torch.full_like(y, towards))
            found.append(y)
    return found


def test_last_bits_distinguish_neighbours_under_floating_point_noise() -> None:
    """The attack works on float32 noise; otherwise it could be too weak to find anything."""
    audit = Audit.begin()
    means = [(audit.sum_of(candidate) * audit.unit).float() for candidate in (0, 1)]
    scale = audit.learner._accountant.deviation * 2 * audit.learner._options.clip / BATCH
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        for truth in (0, 1):
            noisy = means[truth] + torch.randn(means[truth].shape, generator=generator) * scale
            unexplained = [unexplained_by_floats(noisy, mean, scale) for mean in means]
            assert unexplained[truth] == 0
            assert unexplained[1 - truth] > 0


def test_last_bits_reveal_nothing_under_noise_on_the_grid() -> None:
    audit = Audit.begin()
    sums = [audit.sum_of(candidate) for candidate in (0, 1)]
    assert not torch.equal(*sums)
    for _ in range(10):
        for truth in (0, 1):
            weight_KD = audit.weights(truth)
            assert [audit.unexplained(weight_KD, sum_KD) for sum_KD in sums] == [0, 0]


def least_epsilon(scores_CN: np.ndarray, threshold: float) -> tuple[float, float]:
    """A lower bound of ε at 95 % (Clopper & Pearson), and an estimate as of a Gaussian mechanism."""
    count = scores_CN.shape[1]
    false_positives = int((scores_CN[0] > threshold).sum())
    false_negatives = int((scores_CN[1] <= threshold).sum())
    most = [
        1.0 if wrong == count else float(beta.ppf(0.975, wrong + 1, count - wrong))
        for wrong in (false_positives, false_negatives)
    ]
    bound = max(math.log(max(1 - b - DELTA, 1e-9) / a) for a, b in (most, most[::-1]))
    mu = norm.isf(max(false_positives, 0.5) / count) - norm.ppf(max(false_negatives, 0.5) / count)
    return bound, epsilon_of(max(float(mu), 0.0), DELTA)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_no_attack_of_many_trainings_finds_more_than_epsilon() -> None:
    audit, trainings = Audit.begin(), 400
    sums = [audit.sum_of(candidate) for candidate in (0, 1)]
    along_KD = (sums[0] - sums[1]).mul(audit.unit)  # weights go against the gradient
    along = np.zeros((2, trainings))
    last_bits = np.zeros((2, trainings))
    for i in range(trainings):
        for truth in (0, 1):
            weight_KD = audit.weights(truth)
            from_the_first_KD = weight_KD.double() + sums[0] * audit.unit
            along[truth, i] = float((from_the_first_KD * along_KD).sum() / along_KD.square().sum())
            unexplained = [audit.unexplained(weight_KD, sum_KD) for sum_KD in sums]
            last_bits[truth, i] = unexplained[0] - unexplained[1]
    assert audit.learner.privacy().epsilon <= EPSILON * (1 + 1e-9)
    bound, estimate = least_epsilon(along, 0.5)
    assert bound < EPSILON
    assert 0.5 < estimate < 1.3 * EPSILON, "it sees what there is to be seen"
    bound, _ = least_epsilon(last_bits, 0.0)
    assert bound < 0.1
