"""``lethe compare`` shows runs side by side, and ``--html`` writes their report."""

from pathlib import Path

from lethe.observability.result import RunResult
from tests.support.commands import Lethe
from tests.support.reports import demo, made_up


def written(folder: Path, runs: list[RunResult]) -> list[str]:
    paths = [folder / str(place) / "run.json" for place in range(len(runs))]
    for run, path in zip(runs, paths, strict=True):
        run.write(path)
    return [str(path) for path in paths]


def test_a_column_for_each_run_and_a_row_for_each_probe_and_score(lethe: Lethe, tmp_path: Path) -> None:
    done = lethe("compare", *written(tmp_path, [*demo()]))
    text = done.stdout
    for shown in ("finetune", "ridge", "accuracy on mnist", "BWT", "samples learned per second"):
        assert shown in text
    assert "not alike" not in text


def test_runs_of_different_streams_are_said_to_be(lethe: Lethe, tmp_path: Path) -> None:
    other = made_up("x", 0.5, segments=("a", "b"))
    done = lethe("compare", *written(tmp_path, [demo()[0], other]))
    assert "not alike: the runs have different segments" in " ".join(done.stdout.split())


def test_the_page_is_the_report_of_all(lethe: Lethe, tmp_path: Path) -> None:
    page = tmp_path / "compared.html"
    lethe("compare", *written(tmp_path, [*demo()]), "--html", str(page))
    assert all(learner in page.read_text() for learner in ("finetune", "ridge"))


def test_a_file_that_is_no_run_is_refused(lethe: Lethe, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    said = lethe.refuses("compare", str(tmp_path / "run.json"))
    assert "is not a run that can be read" in said
