"""``lethe promote`` writes which model is to be served, by its worst case, with a receipt."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from lethe.cli.main import app
from lethe.errors import InvalidFile, InvalidSetting
from lethe.observability.result import EvaluationPoint, RunResult
from lethe.report.promotion import Incomparable, compare
from lethe.runtime.watch.served_model import ServedModel
from tests.support.reports import made_up


def model(
    accuracies: list[tuple[float, float]], segments: tuple[str, ...] = ("a", "b"), **more: Any
) -> RunResult:
    """A watched model with these accuracies on the probes a and b, all in its latest visit."""
    points = [
        EvaluationPoint(
            samples=at, accuracy={"a": a, "b": b}, full=True, visit=len(segments), ends_segment=False
        )
        for at, (a, b) in enumerate(accuracies)
    ]
    fields = {"probes": ["a", "b"], "segments": list(segments), "evaluations": points, "R": []}
    fields |= {"switches": [], "classes": [], "forgetting_by_probe": {}, "source": "watched"}
    return RunResult.model_validate(
        made_up("model", 0.9).model_dump() | fields | {"broker": "http://model"} | more
    )


STABLE = model([(0.9, 0.8)])


def test_the_worst_case_decides_and_not_the_latest_accuracy() -> None:
    shaky = model([(0.2, 0.95), (0.95, 0.95)])
    comparison = compare({"stable": STABLE, "shaky": shaky}, margin=0.01)
    assert [candidate.wc_acc for candidate in comparison.candidates] == pytest.approx([0.85, 0.575])
    assert comparison.winner.name == "stable"
    assert compare({"shaky": shaky, "stable": STABLE}, margin=0.01).winner.name == "stable"


def test_a_challenger_needs_the_margin() -> None:
    better = model([(0.92, 0.8)])
    assert compare({"stable": STABLE, "better": better}, margin=0.02).winner.name == "stable"
    assert compare({"stable": STABLE, "better": better}, margin=0.005).winner.name == "better"
    assert compare({"stable": STABLE, "same": STABLE}, margin=0.0).winner.name == "stable"


def test_a_model_does_not_win_by_knowing_fewer_skills() -> None:
    narrow = model([(0.1, 1.0)], segments=("b",))
    comparison = compare({"stable": STABLE, "narrow": narrow}, margin=0.01)
    assert comparison.candidates[1].wc_acc == pytest.approx(0.55)


def test_a_challenger_that_does_not_answer_cannot_be_served() -> None:
    better = model([(0.95, 0.95)], unknown="status 503")
    with pytest.raises(Incomparable, match="better does not answer, so that it cannot be served: status 503"):
        compare({"stable": STABLE, "better": better}, margin=0.01)
    down = STABLE.model_copy(update={"unknown": "status 503"})
    better = better.model_copy(update={"unknown": None})
    assert compare({"stable": down, "better": better}, margin=0.01).winner.name == "better"


def test_the_current_skill_can_be_named() -> None:
    comparison = compare({"stable": STABLE, "other": STABLE}, 0.01, current="a")
    assert comparison.current == "a"


@pytest.mark.parametrize(
    ("challenger", "why"),
    [
        (model([(0.9, 0.8)], seed=5), "seed"),
        (model([(0.9, 0.8)], probe_subset=7), "images of each probe"),
        (model([(0.9, 0.8)], failure="it diverged"), "has failed: it diverged"),
        (model([]), "was not measured"),
        (model([(0.9, 0.8)], probe_hashes={"a": "1"}), "hold other images"),
    ],
)
def test_models_that_were_not_measured_alike_are_not_compared(challenger: RunResult, why: str) -> None:
    with pytest.raises(Incomparable, match=why):
        compare({"stable": STABLE, "other": challenger}, 0.01)


def test_two_models_are_needed_and_the_skill_is_theirs() -> None:
    with pytest.raises(Incomparable, match="at least one challenger"):
        compare({"stable": STABLE}, 0.01)
    with pytest.raises(Incomparable, match="c is no skill"):
        compare({"stable": STABLE, "other": STABLE}, 0.01, current="c")


def promoted(*words: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["promote", *map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    receipt: dict[str, Any] = json.loads(done.stdout)
    return receipt


def test_a_promotion_is_written_with_its_receipt_and_rolled_back(tmp_path: Path) -> None:
    STABLE.write(tmp_path / "stable" / "run.json")
    better = model([(0.99, 0.99)], broker="http://better")
    better.write(tmp_path / "next" / "run.json")
    runs = [str(tmp_path / "stable" / "run.json"), f"v2={tmp_path / 'next' / 'run.json'}"]
    to = tmp_path / "served"
    receipt = promoted(*runs, "--to", to)
    assert (receipt["kind"], receipt["served"], receipt["before"]) == ("promoted", "v2", "stable")
    assert receipt["wc_acc"] == pytest.approx({"stable": 0.85, "v2": 0.99})
    assert json.loads(to.read_text()) == {
        "model": "v2",
        "address": "http://better",
        "receipt": receipt["sha256"],
    }
    with pytest.raises(InvalidSetting, match="says that v2 is served"):
        promoted(*runs, "--to", to)
    assert promoted(runs[1], runs[0], "--to", to)["kind"] == "kept"
    assert promoted("--rollback", "--to", to)["served"] == "stable"
    assert json.loads(to.read_text())["address"] == "http://model"


def test_a_rollback_serves_what_was_served_before(tmp_path: Path) -> None:
    served = ServedModel(tmp_path / "served.yaml", "digits")
    with pytest.raises(InvalidSetting, match="nothing to go back to"):
        served.roll_back()
    a, b = ("a", "http://a"), ("b", "http://b")
    served.decide(a, a, 0.01, {}, {})
    served.decide(a, b, 0.01, {}, {})
    receipt = promoted("--rollback", "--to", tmp_path / "served.yaml", "--config-map", "digits")
    assert (receipt["kind"], receipt["served"], receipt["before"]) == ("rolled back", "a", "b")
    manifest = yaml.safe_load((tmp_path / "served.yaml").read_text())
    assert (manifest["kind"], manifest["metadata"]) == ("ConfigMap", {"name": "digits"})
    assert manifest["data"] == {"model": "a", "address": "http://a", "receipt": receipt["sha256"]}
    assert [receipt.kind for receipt in ServedModel(tmp_path / "served.yaml").receipts] == [
        "kept",
        "promoted",
        "rolled back",
    ]


def test_a_changed_receipt_is_found(tmp_path: Path) -> None:
    served = ServedModel(tmp_path / "served")
    for winner in "ab":
        served.decide(("a", ""), (winner, ""), 0.01, {}, {})
    log = tmp_path / "served.receipts.jsonl"
    log.write_text(log.read_text().replace('"margin":0.01', '"margin":0.02', 1))
    with pytest.raises(InvalidFile, match="an earlier receipt was changed"):
        ServedModel(tmp_path / "served")
