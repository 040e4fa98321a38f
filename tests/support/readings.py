"""Readings of an evaluation, made from accuracies alone."""

from collections.abc import Mapping

from lethe.events import Reading

__all__ = ["readings"]


def readings(accuracy: Mapping[str, float]) -> dict[str, Reading]:
    """Readings of two classes, on one of which nothing is right or nothing wrong, with a confidence of 1."""
    return {
        probe: Reading(value, value, (min(1.0, 2 * value), max(0.0, 2 * value - 1)), 1 - value)
        for probe, value in accuracy.items()
    }
