"""``lethe demo`` as a user runs it: one document on stdout, a report, and no process left behind."""

import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient

from deploy.kafka.kraft import KafkaNode
from lethe.observability.result import RunResult
from tests.support.commands import Lethe
from tests.support.demos import run, start
from tests.support.pictures import write_pictures
from tests.support.waiting import until

pytestmark = [pytest.mark.needs("datasets")]

SEGMENTS = ["mnist", "fashion-mnist"]
SCORES = {
    "acc",
    "bwt",
    "fwt",
    "forgetting",
    "min_acc",
    "wc_acc",
    "anytime_accuracy",
    "prequential_accuracy",
}


def check(document: dict[str, Any], broker: str, seed: int) -> None:
    assert document["scenario"] == "mnist-to-fashion"
    assert (document["broker"], document["seed"], document["segments"]) == (broker, seed, SEGMENTS)
    assert list(document["learners"]) == ["finetune"]
    result = document["learners"]["finetune"]
    assert result.keys() > SCORES
    assert [len(row) for row in result["R"]] == [2, 2, 2]
    assert all(0 <= ratio <= 1 for row in result["R"] for ratio in row)
    assert result["bwt"] == pytest.approx(result["R"][2][0] - result["R"][1][0])
    assert result["acc"] == pytest.approx(sum(result["R"][2]) / 2)
    assert [len(classes) for classes in result["accuracy_by_class"].values()] == [10, 10]
    assert result["ece"] == pytest.approx(sum(result["ece_by_probe"].values()) / 2)
    assert len(result["boundaries"]["delays"]) == 1
    assert result["samples"] == {
        "received": 1200,
        "learned": 1200,
        "unlabelled": 0,
        "discarded": 1200,
        "dead_lettered": 0,
        "lost": 0,
        "resident": 0,
        "kept": 0,
    }
    assert result["samples_per_second"] > 0
    assert 0 < result["evaluation_seconds"] < result["seconds"]
    assert result["peak_rss_bytes"] > 1 << 26


@pytest.mark.needs("embedded")
def test_the_demo_prints_one_document_and_leaves_a_report(tmp_path: Path) -> None:
    document = run(tmp_path, "--seed", "3")
    check(document, "embedded", 3)
    result = RunResult.read(tmp_path / "finetune" / "run.json")
    assert document["learners"]["finetune"]["R"] == result.R
    assert result.seed == 3
    assert result.evaluate_every == 150, "four times a segment"
    assert "mnist-to-fashion" in (tmp_path / "report.html").read_text()


@pytest.mark.long
@pytest.mark.needs("embedded")
def test_services_of_a_demo_learn_in_several_processes(tmp_path: Path) -> None:
    document = run(tmp_path, "--learner", "ncm", "--ranks", "2")
    result = document["learners"]["ncm"]
    assert result["samples"]["learned"] == 1200
    assert result["samples"]["lost"] == 0
    assert [len(row) for row in result["R"]] == [2, 2, 2]
    assert "2 ranks learn 2 partitions" in (tmp_path / "ncm" / "service.log").read_text()


def test_what_ranks_cannot_do_is_refused_before_anything_is_started(lethe: Lethe, tmp_path: Path) -> None:
    report = ["--report", str(tmp_path / "report"), "--ranks", "2"]
    assert "several ranks cannot learn it" in lethe.refuses("demo", "--learner", "dp-finetune", *report)
    assert "the ranks send each other a thumbnail of each" in lethe.refuses(
        "demo", "--learner", "experts", "--policy", "clinic", *report
    )
    assert not (tmp_path / "report").exists()


@pytest.mark.long
@pytest.mark.needs("embedded")
def test_a_demo_of_own_pictures_takes_shape_and_classes_from_them(tmp_path: Path) -> None:
    write_pictures(tmp_path / "summer", {"dog": (200, 30, 30), "cat": (30, 200, 30)}, 100, suffix="png")
    write_pictures(tmp_path / "winter", {"bird": (30, 30, 200), "cat": (30, 200, 30)}, 100, suffix="png")
    segments = "[{subject: summer, folder: summer}, {subject: winter, folder: winter}]"
    (tmp_path / "own.yaml").write_text(f"name: own\nsegments: {segments}\n")
    document = run(tmp_path / "report", "--scenario", str(tmp_path / "own.yaml"), "--learner", "ncm")
    result = document["learners"]["ncm"]
    assert (document["scenario"], document["segments"]) == (str(tmp_path / "own.yaml"), ["summer", "winter"])
    assert result["class_names"] == ["cat", "dog", "bird"]
    assert result["samples"]["learned"] == 320
    by_class = result["accuracy_by_class"]["summer"]
    assert by_class[2] is None, "no bird in summer"
    assert min(by_class[:2]) > 0.9
    assert "bird" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.long
@pytest.mark.needs("kafka")
def test_the_demo_through_a_cluster_leaves_no_topic_behind(kafka_node: KafkaNode, tmp_path: Path) -> None:
    check(run(tmp_path, "--broker", kafka_node.bootstrap_servers), kafka_node.bootstrap_servers, 0)
    with KafkaAdminClient(bootstrap_servers=kafka_node.bootstrap_servers) as admin:
        until(
            lambda: not [name for name in admin.list_topics() if name.startswith("lethe-demo-")],
            "the demo's topics are deleted",
        )


@pytest.mark.needs("embedded")
def test_ctrl_c_ends_the_demo_and_everything_that_it_started(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    demo = start(tmp_path, "--rate", "50", MARK=mark)
    try:
        until(
            lambda: len(processes(mark)) >= 6,
            "demo, services, reader processes and producer run",
        )
        demo.send_signal(signal.SIGINT)
        _, stderr = demo.communicate(timeout=120)
    finally:
        demo.kill()
    assert demo.returncode == 130
    assert "Traceback" not in stderr
    until(lambda: not processes(mark), "all of it ends")


def processes(mark: str) -> list[int]:
    """The processes whose environment holds ``mark``: who was started with it, and all below."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended meanwhile, or belongs to another user
    return found


@pytest.mark.needs("embedded")
def test_the_demo_of_a_learner_that_does_not_exist_says_so(tmp_path: Path) -> None:
    process = start(tmp_path, "--learner", "styx")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "learner 'styx' does not exist" in stdout + stderr
    assert "Traceback" not in stderr
