"""A ridge regression per regime of the stream, recognised from the images alone, and a gate between them.

Shapes: B batch, C channels, H height, W width, D features, K classes, R regimes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final, cast

import torch
from torch import Tensor, nn

from lethe.errors import NeverLearned
from lethe.learners.analytic.expert import Expert, ExpertsOptions
from lethe.learners.analytic.membership import check_membership
from lethe.learners.analytic.refresh import samples_until_refresh
from lethe.learners.analytic.regime_tracker import RegimeTracker
from lethe.learners.analytic.regimes import MIN_CHUNK, NEW, assign_in_chunks
from lethe.learners.analytic.rounds import rows_of_all
from lethe.learners.analytic.solution import ridge_solution
from lethe.learners.analytic.sums import Sums
from lethe.learners.analytic.thumbnails import Thumbnails, ThumbnailStatistics, VectorThumbnails
from lethe.learners.base import Learned, Learner, LearnerContext, Retention
from lethe.learners.capabilities import Capability, KeepsSums, Pool, Pools, UnlearnsFromRegimes
from lethe.learners.features.choice import feature_map
from lethe.learners.features.vector_features import VectorFeatures
from lethe.learners.fixed_features import LearnsFromFeatures
from lethe.learners.modules import MixtureClassifier
from lethe.learners.predictor import Predictor, in_chunks
from lethe.learners.state import State

__all__ = ["NEVER", "Experts", "ExpertsOptions"]

_LARGE: Final = ("A", "A_high")  # the large tensors of an expert
_SUMS: Final = (*_LARGE, "B")
NEVER: Final = -1e4  # weight of the constant feature in the gate of a regime without samples


@dataclass(frozen=True, slots=True)
class _Solution:
    """Each expert's W and the gate's, after ``seen`` samples."""

    seen: int
    W_RDK: list[Tensor]
    gate_DR: Tensor
    loaded_with: int = -1
    """Samples of the state that it was loaded with; -1 if it was solved for."""


class Experts(Learner, UnlearnsFromRegimes, KeepsSums, Pools, LearnsFromFeatures):
    """A ridge regression per regime, and a gating regression between the regimes.

    *The regime* of the samples is recognised while learning by Hotelling's T² of 7×7 thumbnails, for each 64
    successive samples: a recurring regime is recognised, a mixture is separated, and 16 samples or more that
    fit no regime open a new one. Smaller batches are assigned as a whole, by a fading mean over some tens of
    samples (`RegimeTracker`). Task boundaries are not used. The option ``regimes`` bounds their number, and
    so memory.

    *Each expert* is a recursive ridge regression on the same fixed features φ: A_r = Σ φφᵀ and B_r = Σ φyᵀ
    over its own regime, exact (`Sums`). *The gate* regresses on the regimes, from A = Σ_r A_r / n_r and
    b_r = Σ φ / n_r, which is B_r summed over the classes; each regime has the same weight, however short. A
    prediction is the
    mean of the experts' probabilities, weighted by the gate's. Where each regime has its own classes, such
    as two digits at a time, the gate is the classifier that a single ridge would be.

    `learn` predicts a batch from the W of the last scheduled solve of its regime, as `Ridge` does.

    *Among several ranks* every one sees the thumbnails of a round's batches and assigns all of them, in the
    order of the ranks, as one learner does whose batch they are. So all have the same regimes, and what is
    pooled are the sums of that learner, to the last bit.

    Cost per sample: that of `Ridge`, and ~50² multiply-adds per regime; one solve for the gate per prediction
    after new samples. State: R (½ D² numbers of 32 bits, D K of 64); 40 bits
    in a regime of 133,145 samples or more.
    """

    name: ClassVar[str] = "experts"
    retains: ClassVar[Retention] = Retention.STATISTICS
    summary: ClassVar[str] = "a ridge regression per regime of the stream, with a gate between them"
    batch_size: ClassVar[int] = 512  # fewer passes over A
    evaluate_every: ClassVar[int] = 32768  # an evaluation takes one solve or two
    paper: ClassVar[str] = (
        "Zhuang et al. 2022, ACIL: Analytic Class-Incremental Learning; Hotelling 1931, The "
        "Generalization of Student's Ratio; Aljundi et al. 2017, Expert Gate"
    )
    Options: ClassVar[type[ExpertsOptions]] = ExpertsOptions
    reports_probabilities: ClassVar[bool] = True
    exchanged_of_samples: ClassVar[str] = "a thumbnail of each"
    lacks: ClassVar[Mapping[Capability, str]] = {
        Capability.MERGES: "two learners need not have found the same regimes",
    }

    def __init__(self, context: LearnerContext) -> None:
        self._options = ExpertsOptions.of(context.options)
        self._features = feature_map(context, self._options)
        self._thumbnails = (
            VectorThumbnails(self._features, context.layout.size)
            if isinstance(self._features, VectorFeatures)
            else Thumbnails(context.layout)
        )
        self._penalty_D = self._options.penalty / self._features.scales.square()
        self._classes, self._device = context.layout.classes, context.device
        self._experts = [self._new()]
        self._trail = RegimeTracker()
        self._solution = _Solution(-1, [], torch.zeros(0))
        self._joined: Pool | None = None
        self._due: Sequence[Expert] = ()

    @property
    def regimes(self) -> int:
        """Number of regimes so far."""
        return len(self._experts)

    def learn(self, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Assign each sample to a regime, predict it there, then add it to the sums of that regime.

        ``loss`` is the mean over samples and classes of the squared error of the scores. Raises
        DivergedLoss.
        """
        self._features.settle(x_BCHW)
        return self.learn_features(self._features(x_BCHW), x_BCHW, y_B)

    def learn_features(self, features_BD: Tensor, x_BCHW: Tensor, y_B: Tensor) -> Learned:
        """Do the same with these features: `LearnsFromFeatures`."""
        z_NS, own = rows_of_all(self._joined, self._thumbnails(x_BCHW))
        regime_N, trail = self._regimes(z_NS)
        scores_BK = self._scores(features_BD, regime_N[own])
        onehot_BK = nn.functional.one_hot(y_B, self._classes).to(scores_BK)
        loss = nn.functional.mse_loss(scores_BK, onehot_BK).item()
        self.require_finite(len(y_B), squared_error=loss)
        predicted_B = scores_BK.argmax(1).cpu()
        regime_B = self._settle(z_NS, regime_N, trail)[own]
        for regime in sorted(set(regime_B.tolist())):
            own_B = regime_B == regime
            rows_B = own_B.to(self._device)
            own_BD = features_BD if own_B.all() else features_BD[rows_B]
            self._experts[regime].sums.add(own_BD, y_B[own_B])
            if self._joined is None and self._experts[regime].refresh_due():
                self._experts[regime].refresh()
        temperature = self._options.temperature
        return Learned(predicted_B, loss, regime_B, lambda: (scores_BK / temperature).softmax(1).cpu())

    def skip(self) -> None:
        """Take note of the other ranks' batches: `Pools`."""
        z_NS, _ = rows_of_all(self._joined, torch.empty(0, self._thumbnails.size, dtype=torch.float64))
        if len(z_NS):
            self._settle(z_NS, *self._regimes(z_NS))

    def _settle(self, z_NS: Tensor, regime_N: Tensor, trail: RegimeTracker) -> Tensor:
        """Open the regime of samples that fit none, and count all in theirs; return the regimes."""
        if (regime_N == NEW).any():
            regime_N[regime_N == NEW] = len(self._experts)
            self._experts.append(self._new())
        self._trail = replace(trail, regime=int(regime_N[-1]))
        for regime in sorted(set(regime_N.tolist())):
            self._experts[regime].signature.add(z_NS[regime_N == regime])
        return regime_N

    def join(self, pool: Pool) -> None:
        """Learn with other ranks from now on: `Pools`."""
        if pool.leads and self._solution.seen < 0:
            self._exact()  # later, this rank's sums are not all
        self._joined = pool

    def pool(self) -> None:
        """Move the sums of all regimes that have new samples to the leading rank: `Pools`."""
        for expert in self._experts:
            expert.pool(self._ranks)

    def refresh_due(self, others: int) -> bool:
        """Return whether `learn` should predict from a new solution of a regime: `Pools`."""
        del others  # every rank counts the samples of all
        self._due = [expert for expert in self._experts if expert.refresh_due()]
        return bool(self._due)

    def share(self, *, refresh: bool) -> None:
        """Give all but the sums to the other ranks; with ``refresh``, only each regime's W: `Pools`."""
        ranks = self._ranks
        if not refresh:
            given = ranks.broadcast_bytes(self._without_sums().to_bytes() if ranks.leads else b"")
            if not ranks.leads:
                self._load_without_sums(State.from_bytes(given))
            return
        for expert in self._due:
            expert.refresh()
        for expert in self._experts:
            ranks.broadcast(expert.W_DK)

    def share_solution(self) -> None:
        """Give the gate and each regime's exact W to all ranks, to predict from: `Pools`."""
        ranks = self._ranks
        if ranks.leads:
            solution = self._exact()
        else:
            W_RDK = [torch.empty_like(expert.W_DK) for expert in self._experts]
            gate_DR = torch.empty(self._features.count, len(W_RDK), device=self._device)
            solution = self._solution = _Solution(self._seen, W_RDK, gate_DR)
        for tensor in (solution.gate_DR, *solution.W_RDK):
            ranks.broadcast(tensor)

    @property
    def _ranks(self) -> Pool:
        if self._joined is None:
            raise ValueError(f"{self.name} has not joined other ranks")
        return self._joined

    def _without_sums(self) -> State:
        state = self.state()
        kept = {name: t for name, t in state.tensors.items() if name.rpartition(".")[2] not in _SUMS}
        return State(kept, state.values)

    def _load_without_sums(self, state: State) -> None:
        regimes = sum(name.endswith(".counts") for name in state.tensors)
        empty = self._empty().tensors()
        sums = {f"{index}.{name}": empty[name] for index in range(regimes) for name in _SUMS}
        self.load_state(State({**state.tensors, **sums}, state.values))

    def unlearn(self, x_BCHW: Tensor, y_B: Tensor, regime_B: Tensor | None = None) -> None:
        """Subtract samples from the sums and the statistics of their regimes: `UnlearnsFromRegimes`.

        The fading mean of small batches, which may contain their thumbnails, begins anew. Raises NeverLearned
        when fewer samples of a class were learned in a regime than are to be unlearned, or when one cannot be
        in its sums with its label (`check_membership`).
        """
        if regime_B is None:
            if self.regimes > 1:
                raise NeverLearned(f"there are {self.regimes} regimes, and it is not said which these are of")
            regime_B = torch.zeros(len(y_B), dtype=torch.int64)
        features_BD, z_BS = self._features(x_BCHW), self._thumbnails(x_BCHW)
        regimes = sorted(set(regime_B.tolist()))
        for regime in regimes:
            if not 0 <= regime < self.regimes:
                raise NeverLearned(f"there is no regime {regime}: there are {self.regimes}, from 0 on")
            own_B = regime_B == regime
            own_BD = features_BD[own_B.to(self._device)]
            check_membership(own_BD, y_B[own_B], self._experts[regime].sums, self._penalty_D)
        for regime in regimes:
            own_B = regime_B == regime
            own_BD = features_BD[own_B.to(self._device)]
            self._experts[regime].subtract(own_BD, y_B[own_B], z_BS[own_B])
        self._trail = RegimeTracker(self._populated(self._trail.regime))
        self._solution = _Solution(-1, [], torch.zeros(0))

    def sums(self) -> Mapping[str, Tensor]:
        """Return the exact sums of every regime that has samples, oldest first."""
        populated = (expert for expert in self._experts if expert.samples)
        return {
            f"{index}.{name}": tensor
            for index, expert in enumerate(populated)
            for name, tensor in expert.exact_sums().items()
        }

    def total(self) -> Mapping[str, Tensor]:
        """Return the exact sums of all regimes together."""
        total, signature = self._empty(), ThumbnailStatistics(self._thumbnails.size)
        for expert in self._experts:
            total.merge(expert.sums)
            signature.sums.add_(expert.signature.sums)
        return total.tensors() | {"signature": signature.sums}

    def predict_proba(self, x_BCHW: Tensor) -> Tensor:
        """Return the experts' probabilities, weighted by the gate's; solves what is out of date."""
        return self._probabilities(self._exact(), x_BCHW)

    @property
    def features_settled(self) -> bool:
        """Whether the scale of vectors is known."""
        return self._features.settled

    def begin_as(self, state: State) -> None:
        """Take over an estimated scale of vectors: `KeepsSums`."""
        self._features.load(state.tensors)

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Return the fixed features, int8: `FixedFeatures`."""
        return self._features(x_BCHW)

    def predict_features(self, features_BD: Tensor) -> Tensor:
        """Return what `predict_proba` returns for images with these features: `FixedFeatures`."""
        return in_chunks(partial(self._mixture, self._exact()), features_BD)

    def module(self) -> nn.Module:
        """Return the features, the gate and all experts, solved for the samples so far."""
        solution = self._exact()
        return MixtureClassifier(
            self._features.module(), solution.gate_DR, solution.W_RDK, 1 / self._options.temperature
        )

    def predictor(self) -> Predictor:
        """Return a predictor with the last solution; solves first where that is missing or far out of date.

        Among several ranks it does not solve before the sums are pooled. With a state whose solution was
        loaded it does not solve before it learns on: until then it predicts as the learner did whose state
        that was.
        """
        solution, options = self._solution, self._options
        old = self._seen - solution.seen > samples_until_refresh(solution.seen, options.refresh_every)
        pooled = self._joined is None or all(expert.pooled for expert in self._experts)
        learned = self._seen != solution.loaded_with
        if pooled and learned and (old or len(solution.W_RDK) < len(self._experts)):
            solution = self._exact()
        return Predictor(partial(self._probabilities, solution), self._seen - solution.seen)

    def state(self) -> State:
        """Return the sums, statistics and counts of all experts, oldest first, and the regime tracker."""
        return State(
            {
                f"{index}.{name}": tensor
                for index, expert in enumerate(self._experts)
                for name, tensor in expert.tensors().items()
            }
            | ({} if self._trail.mean_S is None else {"trail": self._trail.mean_S})
            | dict(self._features.tensors()),
            {"trail": [self._trail.regime, self._trail.lost]},
            self._solved(),
            {
                f"{index}.{name}": expert.sums.mark
                for index, expert in enumerate(self._experts)
                for name in _LARGE
            },
        )

    def load_state(self, state: State) -> None:
        """Copy the experts of ``state`` into this learner."""
        self._features.load(state.tensors)
        count = sum(name.endswith(".counts") for name in state.tensors)
        self._experts = [self._new() for _ in range(count)]
        for index, expert in enumerate(self._experts):
            expert.load({name: state.tensors[f"{index}.{name}"] for name in expert.tensors()})
        regime, lost = cast("list[int]", state.values.get("trail", [0, 0]))  # missing in older checkpoints
        mean_S = state.tensors.get("trail")
        self._trail = RegimeTracker(regime, None if mean_S is None else mean_S.clone(), lost)
        self._solution = _Solution(-1, [], torch.zeros(0))
        if state.solved:
            self._load_solved(state.solved)

    def _solved(self) -> dict[str, Tensor]:
        """Return the last W of the gate and of every expert, with the number of samples it is exact for."""
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
        self._solution = _Solution(seen, W_RDK, gate_DR, loaded_with=self._seen)

    @property
    def _seen(self) -> int:
        return sum(expert.samples for expert in self._experts)

    def _populated(self, regime: int) -> int:
        """Return ``regime``, or the largest one if all of its samples were unlearned."""
        samples = [expert.samples for expert in self._experts]
        return regime if samples[regime] else samples.index(max(samples))

    def _new(self) -> Expert:
        return Expert(self._empty(), self._penalty_D, self._options, self._thumbnails.size)

    def _empty(self) -> Sums:
        return Sums(self._features.count, self._classes, self._device)

    def _regimes(self, z_BS: Tensor) -> tuple[Tensor, RegimeTracker]:
        """Return the regime of each sample, and the tracker after the batch."""
        signatures = [expert.signature for expert in self._experts]
        room = len(self._experts) < self._options.regimes
        if len(z_BS) >= MIN_CHUNK:
            return assign_in_chunks(signatures, z_BS, room), RegimeTracker()
        trail = self._trail.after(signatures, z_BS, room)
        return torch.full((len(z_BS),), trail.regime), trail

    def _scores(self, features_BD: Tensor, regime_B: Tensor) -> Tensor:
        """Return the scores of each sample by its regime's W; by the newest one for a new regime."""
        newest = len(self._experts) - 1
        scores_BK = features_BD.to(torch.float32) @ self._experts[newest].W_DK
        for regime in set(regime_B.tolist()):
            if regime not in {NEW, newest}:
                rows_B = (regime_B == regime).to(self._device)
                scores_BK[rows_B] = features_BD[rows_B].to(torch.float32) @ self._experts[regime].W_DK
        return scores_BK

    def _probabilities(self, solution: _Solution, x_BCHW: Tensor) -> Tensor:
        return in_chunks(lambda x: self._mixture(solution, self._features(x)), x_BCHW)

    def _mixture(self, solution: _Solution, features_BD: Tensor) -> Tensor:
        features_BD, temperature = features_BD.to(torch.float32), self._options.temperature
        weights_BR = (features_BD @ solution.gate_DR).div_(temperature).softmax(1)
        mixture_BK = torch.zeros(len(features_BD), self._classes, device=self._device)
        for weight_B, W_DK in zip(weights_BR.unbind(1), solution.W_RDK, strict=True):
            mixture_BK += weight_B[:, None] * (features_BD @ W_DK).div_(temperature).softmax(1)
        return mixture_BK.cpu()

    def _exact(self) -> _Solution:
        """Return the solution for all samples so far, solving only for what there are new ones of."""
        if self._solution.seen != self._seen:
            W_RDK = [expert.exact() for expert in self._experts]
            self._solution = _Solution(self._seen, W_RDK, self._solve_gate())
        return self._solution

    def _solve_gate(self) -> Tensor:
        """Return the gate's W, of shape [D, R]; a regime without samples gets no weight."""
        features, regimes = self._features.count, len(self._experts)
        populated = [regime for regime, expert in enumerate(self._experts) if expert.samples]
        if len(populated) < 2:
            gate_DR = torch.zeros(features, regimes, device=self._device)
            gate_DR[-1] = NEVER
            gate_DR[-1, populated or slice(None)] = 0
            return gate_DR
        total_DD = torch.zeros(features, features, dtype=torch.float64, device=self._device)
        b_DR = torch.zeros(features, regimes, dtype=torch.float64, device=self._device)
        for regime in populated:
            expert = self._experts[regime]
            weight = self._seen / (len(populated) * expert.samples)
            expert.sums.add_to(total_DD, weight)
            b_DR[:, regime] = weight * expert.sums.B_DK.sum(1)
        gate_DR = ridge_solution(total_DD, b_DR, self._penalty_D)
        empty = [regime for regime in range(regimes) if regime not in populated]
        gate_DR[-1, empty] = NEVER
        return gate_DR
