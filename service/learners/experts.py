"""A ridge for each regime of the stream, found from its images alone, and a gate that tells them apart.

Shapes: B batch, C channels, H height, W width, D features, K classes, R regimes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, cast

import torch
from torch import Tensor, nn

from service.errors import DivergedLoss
from service.learners.base import Learned, Learner, LearnerContext, Retention, State
from service.learners.expert import Expert, ExpertsOptions
from service.learners.features import WaveletFeatures
from service.learners.gram import Gram
from service.learners.predictor import Predictor, in_parts
from service.learners.products import fine_product
from service.learners.refresh import until_refresh
from service.learners.regimes import LEAST_TO_OPEN, NEW, assign
from service.learners.signature import thumbnails
from service.learners.trail import Trail

__all__ = ["Experts", "ExpertsOptions"]

_LARGE: Final = ("A", "A_recent")  # of an expert's tensors


@dataclass(frozen=True, slots=True)
class _Solution:
    """What predicts: each expert's W and the gate's, after ``seen`` samples."""

    seen: int
    W_RDK: list[Tensor]
    gate_DR: Tensor


class Experts(Learner):
    """One ridge regression for each regime, and one that tells the regimes apart.

    *Which regime* a batch belongs to while learning is told by Hotelling's T² of 7×7 thumbnails: a
    subject that recurs is recognised, a mixture is taken apart, and what fits nothing opens a new
    regime, if that is 16 samples of one batch; smaller batches are judged by a fading mean over some
    tens of samples, which takes no mixture apart (`Trail`). Nobody has to say where the stream
    switches, so `boundary` means nothing here. Regimes are few: memory is bounded by the option
    ``regimes``.

    *Each expert* is recursive ridge regression on the same fixed features φ: A_r = Σ φφᵀ and
    B_r = Σ φyᵀ over its regime, both sums, which no other regime touches. *The gate* needs nothing
    more: it regresses on the regimes themselves, from A = Σ_r A_r / n_r and from b_r = Σ φ / n_r,
    which is B_r summed over the classes; each regime counts alike, however short. A prediction is the
    mean of the experts' probabilities, weighed by the gate's. Where the regimes are classes, two
    digits at a time, the gate is the classifier that a single ridge would be.

    `learn` predicts a batch from the W of the last due solve of its regime, as `Ridge` does.

    Cost a sample: that of `Ridge`, and ~50² multiply-adds a regime; a solve for the gate when
    asked. State: R (D² + 2 D K) float32 numbers.
    """

    name: ClassVar[str] = "experts"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "a ridge for each regime that the stream shows, and a gate that tells them apart"
    batch_size: ClassVar[int] = 512  # fewer passes over A
    paper: ClassVar[str] = (
        "Zhuang et al. 2022, ACIL: Analytic Class-Incremental Learning; Hotelling 1931, The "
        "Generalization of Student's Ratio; Aljundi et al. 2017, Expert Gate"
    )
    Options: ClassVar[type[ExpertsOptions]] = ExpertsOptions
    why_not_unlearn: ClassVar[str] = (
        "it keeps no note of the regime that a sample was taken for, which the samples before it decided, "
        "and the sample is in that regime's sums alone"
    )

    def __init__(self, context: LearnerContext) -> None:
        self._options = ExpertsOptions.of(context.options)
        self._features = WaveletFeatures(context.layout, context.seed, self._options.waves, context.device)
        self._classes, self._device = context.layout.classes, context.device
        self._experts = [self._new()]
        self._trail = Trail()
        self._solution = _Solution(-1, [], torch.zeros(0))

    @property
    def regimes(self) -> int:
        """How many there are now."""
        return len(self._experts)

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Find each sample's regime, predict it there, then add it to that regime's sums.

        ``loss`` is the mean over samples and classes of the squared error of the scores. Raises
        DivergedLoss.
        """
        features_BD = self._features(x_BCHW)
        onehot_BK = nn.functional.one_hot(y_B, self._classes).to(features_BD)
        z_BS = thumbnails(x_BCHW)
        regime_B, trail = self._regimes(z_BS)
        scores_BK = self._scores(features_BD, regime_B)
        loss = nn.functional.mse_loss(scores_BK, onehot_BK).item()
        if not math.isfinite(loss):
            raise DivergedLoss(f"the squared error of a batch of {len(y_B)} is {loss}")
        predicted_B = scores_BK.argmax(1).cpu()
        if (regime_B == NEW).any():
            regime_B[regime_B == NEW] = len(self._experts)
            self._experts.append(self._new())
        self._trail = replace(trail, regime=int(regime_B[-1]))
        for regime in sorted(set(regime_B.tolist())):
            own_B = regime_B == regime
            rows_B = own_B.to(self._device)
            whole = bool(own_B.all())
            self._experts[regime].add(
                features_BD if whole else features_BD[rows_B],
                onehot_BK if whole else onehot_BK[rows_B],
                z_BS if whole else z_BS[own_B],
            )
        return Learned(predicted_B, loss)

    def predict(self, x_BCHW: Tensor) -> Tensor:
        """Return the experts' probabilities, weighed by the gate's; solves for what is stale."""
        return self._probabilities(self._exact(), x_BCHW)

    def predictor(self) -> Predictor:
        """Return what predicts from the last solution; solves first where that is missing or much too old.

        A state holds the last solution, so that a restart need not solve for every regime.
        """
        solution, options = self._solution, self._options
        old = self._seen - solution.seen > until_refresh(solution.seen, options.refresh_every)
        if old or len(solution.W_RDK) < len(self._experts):
            solution = self._exact()
        doubled = replace(  # once, and not for each image
            solution,
            W_RDK=[W_DK.double() for W_DK in solution.W_RDK],
            gate_DR=solution.gate_DR.double(),
        )
        return Predictor(partial(self._probabilities, doubled), self._seen - solution.seen)

    def state(self) -> State:
        """Return every expert's sums, signature and counts, in the order of their opening, and the trail."""
        return State(
            {
                f"{index}.{name}": tensor
                for index, expert in enumerate(self._experts)
                for name, tensor in expert.tensors().items()
            }
            | ({} if self._trail.mean_S is None else {"trail": self._trail.mean_S}),
            {"trail": [self._trail.regime, self._trail.lost]},
            self._solved(),
            {f"{index}.{name}": expert.mark for index, expert in enumerate(self._experts) for name in _LARGE},
        )

    def load_state(self, state: State) -> None:
        """Copy the experts of ``state`` into this learner."""
        count = sum(name.endswith(".counts") for name in state.tensors)
        self._experts = [self._new() for _ in range(count)]
        for index, expert in enumerate(self._experts):
            expert.load({name: state.tensors[f"{index}.{name}"] for name in expert.tensors()})
        regime, lost = cast("list[int]", state.values.get("trail", [0, 0]))  # none in checkpoints of before
        mean_S = state.tensors.get("trail")
        self._trail = Trail(regime, None if mean_S is None else mean_S.clone(), lost)
        self._solution = _Solution(-1, [], torch.zeros(0))
        if state.solved:
            self._load_solved(state.solved)

    def _solved(self) -> dict[str, Tensor]:
        """Return the gate's last W and every expert's, each with the samples after which it was exact."""
        if self._solution.seen < 0:
            return {}
        counts = torch.tensor([self._solution.seen, *(expert.solved[0] for expert in self._experts)])
        W_RDK = {f"{index}.W": expert.solved[1] for index, expert in enumerate(self._experts)}
        return {"gate": self._solution.gate_DR, "counts": counts, **W_RDK}

    def _load_solved(self, solved: Mapping[str, Tensor]) -> None:
        seen, *counts = solved["counts"].tolist()
        for index, (expert, count) in enumerate(zip(self._experts, counts, strict=True)):
            expert.solved = (count, solved[f"{index}.W"].to(self._device, copy=True))
        gate_DR = solved["gate"].to(self._device, copy=True)
        W_RDK = [expert.solved[1] for expert in self._experts[: gate_DR.shape[1]]]
        self._solution = _Solution(seen, W_RDK, gate_DR)

    @property
    def _seen(self) -> int:
        return sum(expert.seen for expert in self._experts)

    def _new(self) -> Expert:
        return Expert(self._features.count, self._classes, self._options, self._device)

    def _regimes(self, z_BS: Tensor) -> tuple[Tensor, Trail]:
        """Return each sample's regime, and where the trail of small batches leads."""
        signatures = [expert.signature for expert in self._experts]
        room = len(self._experts) < self._options.regimes
        if len(z_BS) >= LEAST_TO_OPEN:
            return assign(signatures, z_BS, room), Trail()
        trail = self._trail.after(signatures, z_BS, room)
        return torch.full((len(z_BS),), trail.regime), trail

    def _scores(self, features_BD: Tensor, regime_B: Tensor) -> Tensor:
        """Return each sample's scores by its regime's last due W; by the newest's for a new regime."""
        newest = len(self._experts) - 1
        scores_BK = fine_product(features_BD, self._experts[newest].W_DK)
        for regime in set(regime_B.tolist()):
            if regime not in {NEW, newest}:
                rows_B = (regime_B == regime).to(self._device)
                scores_BK[rows_B] = fine_product(features_BD[rows_B], self._experts[regime].W_DK)
        return scores_BK

    def _probabilities(self, solution: _Solution, x_BCHW: Tensor) -> Tensor:
        return in_parts(partial(self._mixture, solution), x_BCHW).cpu()

    def _mixture(self, solution: _Solution, x_BCHW: Tensor) -> Tensor:
        features_BD, temperature = self._features(x_BCHW), self._options.temperature
        weights_BR = fine_product(features_BD, solution.gate_DR).div_(temperature).softmax(1)
        mixture_BK = torch.zeros(len(features_BD), self._classes, device=self._device)
        for weight_B, W_DK in zip(weights_BR.unbind(1), solution.W_RDK, strict=True):
            mixture_BK += weight_B[:, None] * fine_product(features_BD, W_DK).div_(temperature).softmax(1)
        return mixture_BK

    def _exact(self) -> _Solution:
        """Return the solution for all samples so far, solving only for what there are new ones of."""
        if self._solution.seen != self._seen:
            W_RDK = [expert.exact() for expert in self._experts]
            self._solution = _Solution(self._seen, W_RDK, self._solve_gate())
        return self._solution

    def _solve_gate(self) -> Tensor:
        """Return the gate's W, of shape [D, R]."""
        regimes, features = len(self._experts), self._features.count
        if regimes == 1:
            return torch.zeros(features, 1, device=self._device)
        total, b_DR = Gram(features, self._device), torch.zeros(features, regimes, device=self._device)
        for regime, expert in enumerate(self._experts):
            weight = self._seen / (regimes * expert.seen)
            total.folded.add_(expert.gram.folded, alpha=weight).add_(expert.gram.recent, alpha=weight)
            b_DR[:, regime] = weight * expert.B_DK.sum(1)
        return total.solve(b_DR, self._options.penalty)
