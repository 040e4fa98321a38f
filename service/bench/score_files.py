"""Scores as files, and which of them may stand beside one another."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path

from pydantic import BaseModel, ValidationError

from service.bench.scores import JOINT, Key, Score
from service.errors import InvalidFile

__all__ = ["check_alike", "known", "read_scores", "write_csv"]


class _Document(BaseModel):
    scores: list[Score]


def write_csv(scores: Iterable[Score], path: Path) -> None:
    """Write one line a score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Score)])
        writer.writeheader()
        for score in scores:
            probes = " ".join(f"{probe}={accuracy:.4f}" for probe, accuracy in score.probes.items())
            writer.writerow(asdict(score) | {"probes": probes})


def known(scores: Mapping[Key, Score], own_joint: bool) -> set[Key]:
    """Return the keys of those that need not be measured again; with ``own_joint``, of those that have it."""
    return {
        key
        for key, score in scores.items()
        if not own_joint or score.below_joint is not None or key[1] == JOINT
    }


def read_scores(paths: Iterable[Path]) -> dict[Key, Score]:
    """Return the scores of documents that ``lethe bench learners --json`` printed, each once.

    Raises InvalidFile when one is missing or something else, tells another ACC than one before, or was
    measured otherwise.
    """
    scores: dict[Key, Score] = {}
    for path in paths:
        try:
            document = _Document.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidFile(f"{path}: no scores of lethe bench learners --json: {error}") from error
        for score in document.scores:
            before = scores.setdefault(score.key, score)
            if before.acc != score.acc:
                raise InvalidFile(
                    f"{path}: {score.learner} on {score.scenario} with seed {score.seed} has ACC "
                    f"{score.acc:.4f}, and {before.acc:.4f} in a file before it"
                )
    check_alike(scores.values())
    return scores


def check_alike(scores: Iterable[Score]) -> None:
    """Raise InvalidFile where scores of one scenario and seed were not measured alike."""
    first: dict[tuple[str, int], Score] = {}
    for score in scores:
        other = first.setdefault((score.scenario, score.seed), score)
        for name in ("offered", "evaluate_every", "probe_subset"):
            one, another = getattr(score, name), getattr(other, name)
            if one != another:
                raise InvalidFile(
                    f"{score.learner} and {other.learner} on {score.scenario} with seed {score.seed} cannot "
                    f"be compared: {name} is {one:,} and {another:,}"
                )
