"""Models that other services watch are shown as their result files say."""

import os
from pathlib import Path

import pytest

from lethe.events import RequestsMade
from lethe.observability.model_standing import ModelStanding
from lethe.observability.result import EvaluationPoint, RunResult
from lethe.runtime.watch.beside import Beside
from tests.support.reports import made_up


def result(lost: float) -> RunResult:
    """A watched model that lost so much of probe a, and of b, which it never knew."""
    accuracy = {"a": 0.9 - lost, "b": 0.1}
    point = EvaluationPoint(samples=9, accuracy=accuracy, full=True, visit=1, ends_segment=False)
    fields = {"probes": ["a", "b"], "segments": ["a"], "evaluations": [point], "R": [], "switches": []}
    fields |= {"classes": [], "forgetting_by_probe": {"a": lost, "b": 0.2}, "source": "watched", "acc": 0.5}
    return RunResult.model_validate(
        made_up("model", 0.9).model_dump() | fields | {"broker": "http://next", "wc_acc": 0.25}
    )


def test_it_stands_as_in_its_result(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    result(0.25).write(path)
    os.utime(path, (1000, 1000))
    (standing,) = Beside({"next": path}, clock=lambda: 1060.0)()
    assert standing == ModelStanding(
        name="next",
        address="http://next",
        up=True,
        detail="",
        probe="a",
        lost=0.25,
        acc=0.5,
        wc_acc=0.25,
        measured_seconds=60.0,
    )


def test_a_file_is_read_again_only_when_it_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, reads = tmp_path / "run.json", list[Path]()
    read = RunResult.read

    def counted(at: Path) -> RunResult:
        reads.append(at)
        return read(at)

    monkeypatch.setattr(RunResult, "read", counted)
    result(0.25).write(path)
    os.utime(path, (1000, 1000))
    beside = Beside({"next": path})
    assert [beside()[0].lost for _ in range(3)] == [0.25] * 3
    assert len(reads) == 1
    result(0.5).write(path)
    assert beside()[0].lost == 0.5


def test_a_missing_or_damaged_file_is_an_unknown_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "damaged.json").write_text("{")
    beside = Beside({"missing": tmp_path / "missing.json", "damaged": tmp_path / "damaged.json"})
    for _ in range(2):
        missing, damaged = beside()
    assert (missing.up, missing.detail) == (False, "not measured yet: No such file or directory")
    assert not damaged.up
    assert "is not a run that can be read" in damaged.detail
    assert len(caplog.records) == 1


def test_a_model_that_does_not_answer_keeps_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    result(0.25).model_copy(update={"unknown": "status 503"}).write(path)
    (standing,) = Beside({"next": path})()
    assert (standing.up, standing.detail, standing.lost) == (False, "status 503", 0.25)


def test_the_latest_round_has_a_number_of_requests_and_a_median() -> None:
    asked = RequestsMade(answered=3, failed=1, images=96, seconds=(0.5, 0.1, 0.2))
    standing = ModelStanding.of("model", result(0.0), 1.0, asked)
    assert (standing.requests, standing.latency_seconds) == (4, 0.2)
