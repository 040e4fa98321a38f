"""Standardises vectors by a location and a spread of each number, which are given or estimated.

Shapes: B batch, F numbers of a vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

import torch
from pydantic import field_validator, model_validator
from torch import Tensor

from lethe.errors import InvalidSetting
from lethe.learners.modules import Standardised
from lethe.learners.options import Options
from lethe.wire import Layout

__all__ = ["FARTHEST", "VectorOptions", "VectorScale"]

FARTHEST: Final = 8.0
"""Spreads from the location beyond which a number counts as no farther."""
_OUTLIER: Final = 4.0  # spreads beyond which a number moves the estimate no further
_STEPS: Final = 16  # of an octave: a rounded spread has four bits

Numbers = float | tuple[float, ...]


class VectorOptions(Options):
    """How the numbers of vectors are standardised; of no meaning for images."""

    location: Numbers | None = None
    """Vectors only: subtracted from each number; one for all, or a list. Given with spread, or both are
    estimated from the stream, and retained."""
    spread: Numbers | None = None
    """Vectors only: what each number is then divided by; one for all, or a list."""

    @field_validator("spread")
    @classmethod
    def _positive(cls, spread: Numbers | None) -> Numbers | None:
        if spread is not None and min(spread if isinstance(spread, tuple) else (spread,), default=1.0) <= 0:
            raise ValueError("every spread is above 0")
        return spread

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.location is None) is not (self.spread is None):
            raise ValueError("location and spread are given together")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class VectorScale:
    """A location and a spread of each number, float64 of shape [F]; immutable.

    Estimates begin with the median of the first batch. They are a running mean, and 1¼ running mean absolute
    deviations, the standard deviation of Gaussian numbers; no number counts as farther than four of these, so
    that outliers move them little (Huber 1964, Robust Estimation of a Location Parameter).
    """

    location_F: Tensor
    spread_F: Tensor
    """0 for a number that has not varied yet, which is left as it is."""
    given: bool
    """Whether it was given, and not estimated from samples."""
    samples: int = 0
    """Samples in the estimate; 0 while there is none."""

    @classmethod
    def of(cls, layout: Layout, options: VectorOptions) -> Self | None:
        """Return the scale that the options give, or one to be estimated; None for images.

        Raises InvalidSetting for options that do not fit the layout.
        """
        if layout.features is None:
            if options.location is not None:
                raise InvalidSetting(
                    "learner.options.location and spread are for vectors: samples are images"
                )
            return None
        if options.location is None or options.spread is None:
            zeros = torch.zeros(layout.features, dtype=torch.float64)
            return cls(zeros, zeros, given=False)
        location_F = _each("location", options.location, layout.features)
        return cls(location_F, _each("spread", options.spread, layout.features), given=True)

    @property
    def known(self) -> bool:
        """Whether it was given or has been estimated."""
        return self.given or self.samples > 0

    def after(self, x_BF: Tensor) -> Self:
        """Return the estimate after another batch of vectors; one that was given stays."""
        if self.given:
            return self
        x_BF, samples = x_BF.to(torch.float64), self.samples + len(x_BF)
        if not self.samples:
            location_F = x_BF.sort(0).values[(len(x_BF) - 1) // 2]
            spread_F = 1.25 * (x_BF - location_F).abs().mean(0)
        else:
            share = len(x_BF) / samples
            limit_F = torch.where(self.spread_F > 0, _OUTLIER * self.spread_F, torch.inf)
            moved_BF = (x_BF - self.location_F).clamp_(-limit_F, limit_F)
            location_F = self.location_F + share * moved_BF.mean(0)
            spread_F = self.spread_F + share * (1.25 * moved_BF.abs().mean(0) - self.spread_F)
        return replace(self, location_F=location_F, spread_F=spread_F, samples=samples)

    def rounded(self) -> Self:
        """Return it with spreads of four bits and locations in eighths of a spread: less of any sample."""
        mantissa_F, exponent_F = torch.frexp(self.spread_F)
        spread_F = torch.ldexp((mantissa_F * _STEPS).round() / _STEPS, exponent_F)
        eighth_F = self._units(spread_F) / 8
        return replace(self, location_F=(self.location_F / eighth_F).round() * eighth_F, spread_F=spread_F)

    def standardised(self, x_BF: Tensor) -> Tensor:
        """Return vectors in spreads from the location, float64 of shape [B, F], `FARTHEST` at most."""
        moved_BF = x_BF.to(torch.float64) - self.location_F
        return moved_BF.div_(self._units(self.spread_F)).clamp_(-FARTHEST, FARTHEST)

    def module(self) -> Standardised:
        """Return `standardised` as a torch module that can be exported."""
        return Standardised(self.location_F, self._units(self.spread_F), FARTHEST)

    def tensors(self) -> dict[str, Tensor]:
        """Return what has been estimated; nothing of a scale that was given."""
        if self.given:
            return {}
        samples = torch.tensor(self.samples)
        return {"location": self.location_F, "spread": self.spread_F, "scaled": samples}

    def loaded(self, tensors: Mapping[str, Tensor]) -> Self:
        """Return the scale whose `tensors` these are."""
        if self.given:
            return self
        location_F, spread_F = (tensors[name].clone() for name in ("location", "spread"))
        return replace(self, location_F=location_F, spread_F=spread_F, samples=int(tensors["scaled"]))

    @staticmethod
    def _units(spread_F: Tensor) -> Tensor:
        return torch.where(spread_F > 0, spread_F, 1.0)


def _each(name: str, numbers: Numbers, count: int) -> Tensor:
    every = (numbers,) * count if isinstance(numbers, float | int) else numbers
    if len(every) != count:
        raise InvalidSetting(
            f"learner.options.{name}: {len(every)} numbers, but vectors (sample.features) have {count}"
        )
    return torch.tensor(every, dtype=torch.float64)
