"""A run is read back as it was written, and an inconsistent one is refused."""

import re
from pathlib import Path
from typing import Any

import pytest

from lethe.errors import InvalidFile
from lethe.events import SCORES
from lethe.observability.result import RunResult
from tests.support.reports import demo


def test_a_run_is_read_back_unchanged(tmp_path: Path) -> None:
    run = demo()[0]
    run.write(tmp_path / "finetune" / "run.json")
    assert RunResult.read(tmp_path / "finetune" / "run.json") == run
    assert [file.name for file in (tmp_path / "finetune").iterdir()] == ["run.json"]


def test_each_evaluation_has_the_scores_as_they_were_then() -> None:
    run = demo()[0]
    first, *_, last = run.evaluations
    assert first.scores == {}, "the untrained learner has none"
    assert last.scores == {name: value for name in SCORES if (value := getattr(run, name)) is not None}
    assert set(last.scores) == set(SCORES)


@pytest.mark.parametrize("content", [None, "", "{}", '{"learner": "ridge"}', "[1, 2"])
def test_a_file_without_a_run_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidFile, match=re.escape(f"{path} is not a run")):
        RunResult.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"R": [[0.1, 0.1], [0.9]]}, "every row has 2 accuracies"),
        ({"R": [[0.1, 0.1]] * 4}, "4 rows, 2 segments"),
        ({"forgetting_by_probe": {"cifar": 0.5}}, "cifar measured, but not listed"),
        ({"bwt": float("nan")}, "finite number"),
        ({"mood": "good"}, "mood"),
    ],
)
def test_an_inconsistent_run_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunResult.model_validate(demo()[0].model_dump() | change)
