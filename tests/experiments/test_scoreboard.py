"""The scoreboard: learners run scenarios offline and are compared."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lethe.errors import InvalidFile
from lethe.experiments.bench.offline_run import OfflineResult, OfflineRun, run_offline
from lethe.experiments.bench.score_files import check_alike, known, read_scores, write_csv
from lethe.experiments.bench.scoreboard import Bench, bench_learners
from lethe.experiments.bench.scores import JOINT, Score
from lethe_producers.datasets import default_root
from lethe_producers.order import Order
from lethe_producers.records import Records
from lethe_producers.scenario import Scenario, Segment
from tests.support.commands import Lethe
from tests.support.scenarios import ABRUPT
from tests.support.scores import score

needs_datasets = pytest.mark.needs("datasets")


def test_a_csv_has_a_line_for_each_score(tmp_path: Path) -> None:
    write_csv([score(), score(seed=1, bwt=None)], tmp_path / "new" / "scores.csv")
    with (tmp_path / "new" / "scores.csv").open() as file:
        first, second = csv.DictReader(file)
    assert float(first["acc"]) == 0.9
    assert (second["seed"], second["bwt"]) == ("1", "")
    assert first["probes"] == "mnist=0.9500 fashion-mnist=0.8500"


def test_a_file_that_is_no_document_of_scores_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("{}")
    for name in ("empty.json", "missing.json"):
        with pytest.raises(InvalidFile, match=name):
            read_scores([tmp_path / name])


@pytest.mark.parametrize("measure", ["offered", "evaluate_every", "probe_subset"])
def test_scores_that_were_measured_otherwise_are_not_shown_beside_one_another(
    measure: str, tmp_path: Path
) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"scores": [score().model_dump()]}))
    other = score(learner="finetune", **{measure: 17})
    (tmp_path / "other.json").write_text(json.dumps({"scores": [other.model_dump()]}))
    with pytest.raises(InvalidFile, match=rf"finetune and ridge on abrupt .* {measure} is 17 and "):
        read_scores([tmp_path / "one.json", tmp_path / "other.json"])


def test_another_seed_or_scenario_may_have_other_samples() -> None:
    check_alike([score(), score(seed=1, offered=1_190), score(scenario="gradual", offered=600)])


@needs_datasets
def test_an_offline_run_is_the_services_own_loop_over_the_whole_scenario() -> None:
    offline = OfflineRun("finetune", ABRUPT, samples=700)
    result = run_offline(offline)
    assert result.run.segments == ["mnist", "fashion-mnist"]
    assert (result.run.samples.learned, result.run.samples.resident) == (1400, 0)
    assert result.accuracy == result.run.acc
    assert result.state_bytes > 421_642 * 4  # the weights, and two moments of each
    assert result.samples_per_second > 0
    scored, run = Score.of(offline, "finetune", result, None), result.run
    assert (scored.windowed_forgetting, scored.windowed_plasticity, scored.ece) == (
        run.windowed_forgetting,
        run.windowed_plasticity,
        run.ece,
    )
    assert None not in (scored.windowed_forgetting, scored.windowed_plasticity, scored.ece)


@needs_datasets
def test_evaluations_are_as_frequent_as_is_asked_for() -> None:
    run = run_offline(OfflineRun("finetune", ABRUPT, samples=300, evaluate_every=128)).run
    assert run.evaluate_every == 128
    between = [point.samples for point in run.evaluations if not point.full]
    assert between == [128, 256, 384, 512]


@needs_datasets
def test_an_offline_run_is_repeatable_and_seeds_differ() -> None:
    one, same, other = (
        run_offline(OfflineRun("finetune", ABRUPT, seed, samples=300)).run.R for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other


@needs_datasets
def test_a_shuffled_stream_has_no_segments_and_all_samples() -> None:
    result = run_offline(OfflineRun("finetune", ABRUPT, samples=400, shuffled=True))
    assert result.run.segments == []
    assert result.run.samples.learned == 800
    assert result.accuracy > 0.5


@needs_datasets
def test_a_gradual_switch_is_scored_from_its_beginning_to_its_end() -> None:
    zeros, trousers = (
        segment.model_copy(update={"count": 2000, "blend": blend, "malformed": malformed})
        for segment, blend, malformed in zip(ABRUPT.segments, (1000, 0), (0.2, 0.0), strict=True)
    )
    offline = OfflineRun("finetune", ABRUPT.model_copy(update={"segments": (zeros, trousers)}))
    result = run_offline(offline)
    ((begin, end),) = result.ramps
    assert begin == pytest.approx(1500 * 0.8, abs=40)
    assert end == result.run.samples.learned - 1500
    scored = Score.of(offline, "finetune", result, None)
    assert (scored.boundaries, scored.found, scored.false_alarms) == (1, 1, 0)
    assert scored.delay is not None
    assert begin + scored.delay == result.run.boundaries.detected[0].samples


@needs_datasets
def test_options_are_chosen_on_rows_that_the_stream_then_lacks() -> None:
    chosen = OfflineRun("finetune", ABRUPT, samples=300, validation=True, options={"lr": 0.01})
    records = Records(Order(ABRUPT, 0, 300), default_root())
    result = run_offline(chosen)
    assert result.run.samples.learned == 600 - sum(map(records.held_out, range(600)))
    assert result.run.samples.learned < 600
    scored = Score.of(chosen, chosen.title, result, None)
    assert (scored.scenario, scored.learner) == ("abrupt (validation)", "finetune lr=0.01")


def test_scores_of_other_options_another_split_or_given_boundaries_are_measured_again() -> None:
    there = [("abrupt", learner, 0, False) for learner in ("joint", "finetune", "ewc")]

    def names(**changes: Any) -> list[tuple[str, str]]:
        bench = Bench([ABRUPT], ["ewc"], seeds=1, known=there, **changes)
        return [(offline.stream, name) for name, offline in bench.wanted()]

    assert names() == []
    assert names(oracle=True) == [("abrupt", "ewc lag=0")], (
        "the boundary is given in time: no need to go back"
    )
    assert names(oracle=True, options={"lag": 64}) == [("abrupt", "ewc lag=64")]
    assert names(options={"strength": 3, "optimizer": "SGD"}) == [("abrupt", "ewc strength=3 optimizer=SGD")]
    assert names(validation=True) == [("abrupt (validation)", name) for name in ("joint", "finetune", "ewc")]


def test_both_references_are_always_measured() -> None:
    wanted = [name for name, _ in Bench([ABRUPT], ["ewc"], seeds=1).wanted()]
    assert wanted == ["joint", "finetune", "ewc"]
    another = Bench([ABRUPT], ["finetune"], seeds=1, options={"lr": 0.01})
    assert [name for name, _ in another.wanted()] == ["joint", "finetune", "finetune lr=0.01"]
    oracle = Bench([ABRUPT], ["finetune"], seeds=1, oracle=True)
    assert [(name, offline.given_boundaries) for name, offline in oracle.wanted()] == [
        ("joint", False),
        ("finetune", False),
        ("finetune", True),
    ]


def test_a_score_that_two_files_have_is_one(tmp_path: Path) -> None:
    for name, acc in (("one.json", 0.9), ("same.json", 0.9), ("other.json", 0.8)):
        (tmp_path / name).write_text(json.dumps({"scores": [score(acc=acc).model_dump()]}))
    scores = read_scores([tmp_path / "one.json", tmp_path / "same.json"])
    assert list(scores.values()) == [score()]
    with pytest.raises(InvalidFile, match=r"other\.json: .* ACC 0\.8000, and 0\.9000"):
        read_scores([tmp_path / "one.json", tmp_path / "other.json"])


def test_a_score_without_its_own_joint_is_measured_again_when_that_is_asked_for() -> None:
    there = {one.key: one for one in (score(), score(learner=JOINT), score(learner="ewc", below_joint=0.1))}
    assert known(there, own_joint=False) == set(there)
    assert {learner for _, learner, _, _ in known(there, own_joint=True)} == {JOINT, "ewc"}


@needs_datasets
def test_malformed_records_of_a_scenario_are_counted_not_learned() -> None:
    faulty = Scenario(
        name="faulty",
        description="one in five",
        segments=(Segment(subject="mnist", dataset="mnist", classes=(0,), count=300, malformed=0.2),),
    )
    samples = run_offline(OfflineRun("finetune", faulty)).run.samples
    assert samples.dead_lettered > 20
    assert samples.received == samples.learned + samples.dead_lettered == 300


@needs_datasets
def test_a_board_has_the_joint_reference_first_and_says_how_far_each_is_below_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs: list[OfflineRun] = []

    def noted(offline: OfflineRun) -> OfflineResult:
        runs.append(offline)
        return run_offline(offline)

    monkeypatch.setattr("lethe.experiments.bench.scoreboard.run_offline", noted)
    bench = Bench([ABRUPT], ["finetune"], seeds=1, samples=200, own_joint=True)
    joint, finetune = bench_learners(bench)
    assert [one.shuffled for one in runs] == [True, False], "joint is finetune's own"
    assert bench.steps == 2
    assert (joint.learner, joint.below_joint) == (JOINT, None)
    assert (finetune.offered, finetune.evaluate_every, finetune.probe_subset) == (400, 5000, 1000)
    assert (finetune.returns, finetune.recognised) == (0, 0)
    assert finetune.below_joint == pytest.approx(joint.acc - finetune.acc)


@needs_datasets
def test_the_command_prints_one_json_document_and_writes_the_requested_files(
    lethe: Lethe, tmp_path: Path
) -> None:
    (tmp_path / "abrupt.yaml").write_text(ABRUPT.model_dump_json())
    wanted = ["--scenario", str(tmp_path / "abrupt.yaml"), "--samples", "100", "--seeds", "1", "--json"]
    files = ["--csv", str(tmp_path / "b.csv"), "--html", str(tmp_path / "b.html")]
    done = lethe("bench", "learners", "--learner", "finetune", *wanted, *files)
    document = json.loads(done.stdout)
    assert [line["learner"] for line in document["summaries"]] == [JOINT, "finetune"]
    assert all(line["told"] is False for line in (*document["scores"], *document["summaries"]))
    assert (tmp_path / "b.csv").read_text().count("\n") == 3
    assert (tmp_path / "b.html").stat().st_size > 1_000_000
    (tmp_path / "b.json").write_text(done.stdout)
    both = lethe("bench", "learners", "--learner", "ncm", *wanted, "--with", str(tmp_path / "b.json"))
    seen = [(line["learner"], line["seeds"]) for line in json.loads(both.stdout)["summaries"]]
    assert seen == [(JOINT, 1), ("finetune", 1), ("ncm", 1)]


def test_plots_and_scores_in_one_file_are_refused(lethe: Lethe, tmp_path: Path) -> None:
    file = str(tmp_path / "scores")
    assert "--csv and --html name the same file" in lethe.refuses(
        "bench", "learners", "--csv", file, "--html", file
    )


def test_an_option_that_a_learner_lacks_is_refused_before_anything_is_learned(lethe: Lethe) -> None:
    said = lethe.refuses("bench", "learners", "--learner", "finetune", "--option", "strength=1")
    assert "learner.options.strength" in said


def test_an_unknown_learner_is_refused_before_anything_is_learned(lethe: Lethe) -> None:
    assert "oblivion" in lethe.refuses("bench", "learners", "--learner", "oblivion")
