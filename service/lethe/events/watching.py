"""Events about a model that Lethe watches but does not train."""

from dataclasses import dataclass

__all__ = ["DropFound", "RequestsMade", "TargetStatus"]


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """Whether the watched model answers; if not, ``detail`` is the reason and its skills are unknown."""

    up: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RequestsMade:
    """Requests to the watched model in one round: those answered, and those that failed after all retries."""

    answered: int
    failed: int
    images: int
    """Images in the answered ones."""
    retried: int = 0
    """Further attempts, which are not counted as requests."""
    seconds: tuple[float, ...] = ()
    """How long each answered request took, with its retries."""


@dataclass(frozen=True, slots=True)
class DropFound:
    """The sequential test found that the accuracy on a probe has dropped."""

    probe: str
    rounds: int
    """Rounds since the accuracies that it is compared with were measured."""
    images: int
    """Images that were asked about in these rounds."""
