"""lethe test: limits that are kept or broken, what was not measured, and runs that failed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lethe.cli.main import app
from lethe.observability.result import RunResult
from lethe.report.limits import Check, Limits, check_run
from tests.support.commands import Lethe
from tests.support.reports import made_up, started


def run_of(tmp_path: Path, result: RunResult, name: str = "run.json") -> str:
    path = tmp_path / name
    result.write(path)
    return str(path)


def lethe_test(*words: str) -> Result:
    return CliRunner().invoke(app, ["test", *words], env={"COLUMNS": "120", "NO_COLOR": "1"})


def test_a_run_within_its_limits_passes(tmp_path: Path) -> None:
    done = lethe_test(
        run_of(tmp_path, made_up("ridge", 0.9955)), "--max-forgetting", "0.02", "--min-acc", "0.8"
    )
    assert done.exit_code == 0, done.output
    assert "forgetting of mnist" in done.stdout
    assert "broken" not in done.stdout


def test_a_broken_limit_is_named_and_ends_with_status_1(tmp_path: Path) -> None:
    kept, lost = (
        run_of(tmp_path, made_up(*run), f"{run[0]}.json") for run in (("ridge", 0.9955), ("finetune", 0.23))
    )
    done = lethe_test(kept, lost, "--max-forgetting", "0.02", "--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert not document["passed"]
    assert {check["run"]: check["passed"] for check in document["checks"]} == {kept: True, lost: False}
    assert {check["what"] for check in document["checks"]} == {"forgetting of mnist"}


@pytest.mark.parametrize("words", [("--max-forgetting", "1"), ("--min-acc", "0"), ("--min-bwt", "-1")])
def test_what_was_not_measured_does_not_pass(tmp_path: Path, words: tuple[str, str]) -> None:
    done = lethe_test(run_of(tmp_path, started()), *words)
    assert done.exit_code == 1
    assert "not measured" in done.stdout


def test_a_run_that_failed_does_not_pass(tmp_path: Path) -> None:
    failed = made_up("ridge", 0.9955).model_copy(update={"failure": "the learner diverged"})
    done = lethe_test(run_of(tmp_path, failed), "--min-acc", "0")
    assert done.exit_code == 1
    assert "the learner diverged" in done.stdout


def test_each_score_has_its_limit_and_the_limit_itself_is_allowed() -> None:
    run = made_up("ridge", 0.9955)
    assert run.acc is not None
    assert run.bwt is not None
    assert run.wc_acc is not None
    limits = Limits(min_acc=run.acc, min_bwt=run.bwt, min_wc_acc=run.wc_acc)
    assert [check.what for check in check_run(run, limits)] == ["ACC", "BWT", "WC-ACC"]
    assert all(check.passed for check in check_run(run, limits))
    stricter = Limits(min_acc=run.acc + 1e-9, min_bwt=run.bwt + 1e-9, min_wc_acc=run.wc_acc + 1e-9)
    assert not any(check.passed for check in check_run(run, stricter))
    assert Check("forgetting of a", 0.02, 0.02, at_most=True).passed
    assert not Check("forgetting of a", 0.021, 0.02, at_most=True).passed


def test_without_limits_it_says_which_there_are(tmp_path: Path, lethe: Lethe) -> None:
    said = lethe.refuses("test", run_of(tmp_path, started()))
    assert said.startswith("lethe: lethe test needs a limit: --max-forgetting")


def test_a_file_that_is_no_run_is_named(tmp_path: Path, lethe: Lethe) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    assert str(path) in lethe.refuses("test", str(path), "--min-acc", "0.9").replace("\n", "")
