"""The texts and numbers of the report are those of the run."""

from dataclasses import astuple
from pathlib import Path

import pytest

from lethe.evaluation.boundary_scores import Boundaries, DetectedBoundary
from lethe.observability.result import PrivacyAccount
from lethe.report import write_report
from lethe.report.formatting import number, percent, points, seconds
from lethe.report.headline import headline
from tests.support.reports import demo, made_up, nameless, report, started

BEST = "from its best to the latest evaluation"


def test_the_headline_names_the_learner_and_what_it_forgot() -> None:
    finetune, ridge = (headline(run) for run in demo())
    assert finetune.verdict == "finetune forgot mnist"
    assert finetune.numbers == f"{percent(0.977)} → {percent(0.3017)}"
    assert finetune.circumstance == "while learning fashion-mnist"
    assert ridge.verdict == "ridge kept mnist"


@pytest.mark.parametrize(
    ("lost", "verdict"),
    [
        ({"mnist": 0.5, "fashion-mnist": 0.1}, "x forgot mnist and 1 more"),
        ({"mnist": 0.05, "fashion-mnist": 0.01}, "x lost some of mnist"),
        ({"mnist": -0.02, "fashion-mnist": 0.01}, "x kept fashion-mnist and 1 more"),
    ],
)
def test_the_verdict_is_on_the_probe_that_lost_most(lost: dict[str, float], verdict: str) -> None:
    run = made_up("x", 0.5, segments=("mnist", "fashion-mnist", "mnist"))
    assert headline(run.model_copy(update={"forgetting_by_probe": lost})).verdict == verdict


@pytest.mark.parametrize(
    ("now", "lost", "said"),
    [
        (0.30, 0.65, ("x forgot a", "95.0\u202f% → 30.0\u202f%", BEST)),
        (
            0.90,
            0.05,
            ("x lost some of a", "95.0\u202f% → 90.0\u202f%", BEST),
        ),
        (0.94, 0.01, ("x kept a", "95.0\u202f% → 94.0\u202f%", BEST)),
        (0.05, 0.30, ("x has learned 9 samples", "80.0\u202f%", "prequential accuracy")),
    ],
)
def test_without_segments_a_probe_is_compared_with_its_own_best(
    now: float, lost: float, said: tuple[str, str, str]
) -> None:
    run = nameless("x", now, lost)
    assert astuple(headline(run)) == said
    assert astuple(headline(run.model_copy(update={"evaluations": [], "forgetting_by_probe": {}})))[0] == (
        "x has learned 9 samples"
    )


def test_without_segments_the_tiles_show_scores_that_are_defined(tmp_path: Path) -> None:
    page = report([nameless("x", 0.3, 0.65)], tmp_path)
    styles = [attributes.get("class") for tag, attributes in page.tags if tag == "dd"]
    assert "undefined" not in styles
    assert "Forgetting: how far old probes are below their best, in points" in page.texts


def test_numbers_are_formatted() -> None:
    assert [percent(0.9769), percent(None), points(-0.676), points(0.004), points(-0.0001), points(None)] == [
        "97.7\u202f%",
        "–",
        "−67.6",
        "+0.4",
        "0.0",
        "–",
    ]
    assert [number(1234567.2), seconds(4.21), seconds(205)] == [
        "1\u202f234\u202f567",
        "4.2\u202fs",
        "3\u202fmin 25\u202fs",
    ]


def test_every_number_of_every_run_is_on_the_page(tmp_path: Path) -> None:
    runs = demo()
    text = report(runs, tmp_path).text
    for run in runs:
        for score in (
            run.acc,
            run.min_acc,
            run.wc_acc,
            run.anytime_accuracy,
            run.ece,
            run.prequential_accuracy,
        ):
            assert percent(score) in text
        differences = (run.bwt, run.fwt, run.forgetting, run.windowed_forgetting, run.windowed_plasticity)
        for difference in differences:
            assert points(difference) in text
        for accuracy in (value for row in run.R for value in row):
            assert f"{100 * accuracy:.1f}" in text
        for count in (*run.samples.model_dump().values(), *run.dead_letters.values(), run.evaluate_every):
            assert number(count) in text
        assert number(run.samples_per_second) in text
        assert seconds(run.seconds) in text
        assert run.summary in text
    for name in ("ACC", "BWT", "FWT", "Forgetting", "min-ACC", "WC-ACC", "WF", "WP", "ECE"):
        assert name in text
    assert "Σ_{j<T} (R[T,j] − R[j,j])" in text, "a formula loses nothing to its angle brackets"


def test_undefined_scores_are_marked(tmp_path: Path) -> None:
    page = report([started(), demo()[1]], tmp_path)
    assert "finetune has finished no segment" in page.text
    assert page.texts.count("–") >= 12
    assert page.texts.count("Not defined in this run.") == 10
    assert [name for name in page.figures if name.endswith("-0")] == []


def test_counts_that_do_not_add_up_are_reported(tmp_path: Path) -> None:
    run = demo()[0]
    short = run.samples.model_copy(update={"learned": run.samples.learned - 30})
    assert "no, off by 30" in report([run.model_copy(update={"samples": short})], tmp_path).text


def test_the_report_shows_the_privacy_budget_spent(tmp_path: Path) -> None:
    run = made_up("x", 0.5)
    assert "ε =" not in report([run], tmp_path).text
    account = PrivacyAccount(epsilon=2.75, delta=1e-5, budget=3.0, spent=True)
    page = report([run.model_copy(update={"privacy": account})], tmp_path).text
    assert "ε = 2.75 of 3, δ = 1e-05; learning stopped" in page
    simulated = PrivacyAccount(
        epsilon=None, delta=1e-5, budget=3.0, spent=False, simulated=True, simulated_epsilon=2.75
    )
    page = report([run.model_copy(update={"privacy": simulated})], tmp_path).text
    assert "simulated: seeded noise gives no privacy" in page
    assert "2.75" not in page


def test_a_report_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        write_report([], tmp_path / "report.html")


def test_the_report_shows_and_marks_detected_boundaries(tmp_path: Path) -> None:
    run = demo()[0]
    boundaries = Boundaries(
        detected=[
            DetectedBoundary(samples=1234, signal="features"),
            DetectedBoundary(samples=4321, signal="loss"),
        ],
        delays=[64, None],
        false_alarms=1,
    )
    page = report([run.model_copy(update={"boundaries": boundaries})], tmp_path)
    for said in ("boundaries detected", "1 of 2", "samples until detection", "64", "false alarms"):
        assert said in page.texts
    marks = page.figures["accuracy-0"]["layout"]["shapes"]
    assert [mark["x0"] for mark in marks][-2:] == [1234, 4321]
