"""How a network moves, as plain numbers."""

from dataclasses import dataclass

__all__ = ["Motion"]


@dataclass(frozen=True, slots=True)
class Motion:
    """The gradient of a batch, and how far the weights have moved since they were last looked at.

    It takes several passes over all weights, so only some batches are measured. A number is None if there is
    nothing to compare with yet.
    """

    gradient: float
    """Length of the gradient of what is minimised, before a method changes it."""
    step: float | None = None
    """Length of the way that the weights moved since they were last looked at."""
    turn: float | None = None
    """Cosine between that way and the one before."""
    interference: float | None = None
    """Cosine between the gradient and the running mean of those looked at before; below 0 the batch pulls the
    weights back from where the stream led them."""
