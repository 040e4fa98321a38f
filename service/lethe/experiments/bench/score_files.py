"""Reads and writes files of scores, and checks that scores are comparable."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from lethe.errors import InvalidFile
from lethe.experiments.bench.scores import JOINT, Key, Score

__all__ = ["check_alike", "known", "read_scores", "write_csv"]


IDENTITY: Final = ("scenario", "learner", "seed", "retains")
"""The first columns of a file."""


class _Document(BaseModel):
    scores: list[Score]


def write_csv(scores: Iterable[Score], path: Path) -> None:
    """Write one row per score."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [field.alias or name for name, field in Score.model_fields.items()]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*IDENTITY, *(key for key in columns if key not in IDENTITY)])
        writer.writeheader()
        for score in scores:
            probes = " ".join(f"{probe}={accuracy:.4f}" for probe, accuracy in score.probes.items())
            writer.writerow(score.model_dump() | {"probes": probes})


def known(scores: Mapping[Key, Score], own_joint: bool) -> set[Key]:
    """Return the keys of complete scores; with ``own_joint``, only of those with ``below_joint``."""
    return {
        key
        for key, score in scores.items()
        if not own_joint or score.below_joint is not None or key[1] == JOINT
    }


def read_scores(paths: Iterable[Path]) -> dict[Key, Score]:
    """Read the scores of documents that ``lethe bench learners --json`` printed.

    Raises InvalidFile if a file is missing or not such a document, if two files disagree on a score, or if
    scores are not comparable.
    """
    scores: dict[Key, Score] = {}
    for path in paths:
        try:
            document = _Document.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidFile(f"{path}: not a document of lethe bench learners --json: {error}") from error
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
    """Raise InvalidFile if scores of one scenario and seed have different streams or evaluation settings."""
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
