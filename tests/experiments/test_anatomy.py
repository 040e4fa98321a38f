"""An anatomy from end to end: what it rejects, its document and its page."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from lethe.errors import InvalidSetting
from lethe.experiments.anatomy.run import run_anatomy
from lethe.experiments.anatomy.study import Study
from lethe_producers.scenario import load_scenario
from tests.support.commands import Lethe

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_switch_that_is_not_there_is_rejected(lethe: Lethe, tmp_path: Path) -> None:
    refused = lethe.refuses(
        "anatomy", "--scenario", "rotated", "--switch", "4", "--out", str(tmp_path / "out")
    )
    assert "the scenario rotated has the switches 1 to 3" in refused
    assert not (tmp_path / "out").exists()
    with pytest.raises(InvalidSetting, match="has no switch"):
        Study(load_scenario("mnist"), ["finetune"]).kinds()
    with pytest.raises(InvalidSetting, match="goes on with mnist"):
        Study(load_scenario("stationary"), ["finetune"]).kinds()
    assert "does not exist" in lethe.refuses("anatomy", "--learner", "finetuned", "--out", str(tmp_path))
    both = ("--learner", "ewc", "--learner", "finetune", "--option", "lr=1")
    assert "one learner" in lethe.refuses("anatomy", *both, "--out", str(tmp_path))


@pytest.mark.needs("datasets")
def test_a_network_is_dissected(lethe: Lethe, tmp_path: Path, browser: Browser) -> None:
    arguments = ("--samples", "700", "--seeds", "2", "--grid", "4", "--option", "backbone=mlp")
    done = lethe("anatomy", "--learner", "finetune", *arguments, "--out", str(tmp_path), "--json")
    document = json.loads(done.stdout)
    assert document == json.loads((tmp_path / "anatomy.json").read_text())
    first, second = document["dissections"]
    assert (first["learner"], first["seed"], second["seed"]) == ("finetune", 0, 1)
    assert first["samples"][0] == 0
    assert first["samples"][first["switch"]] == 700
    assert first["samples"][-1] == 1400
    weights = first["weights"]
    assert [layer["name"] for layer in weights["layers"]] == [
        "1 Linear 256×784",
        "3 Linear 256×256",
        "5 Linear 10×256",
    ]
    surface = weights["portrait"]["surface"]
    assert len(surface["loss"]["mnist"]) == len(surface["loss"]["mnist"][0]) == 4
    assert 0 < weights["portrait"]["share"] <= weights["portrait"]["best_share"] <= 1
    assert len(weights["portrait"]["path"]) == len(first["samples"])
    assert second["weights"]["portrait"] is second["weights"]["theory"] is None
    ends = weights["stitching"]["old_above_new"]
    assert weights["stitching"]["new_above_old"][:: len(ends) - 1] == [ends[-1], ends[0]]
    assert ends[0] == weights["old_line"]["accuracy"][0]
    assert ends[-1] == weights["old_line"]["accuracy"][-1]
    at_end = weights["theory"]["predictions"][-1]
    assert at_end["measured"] == pytest.approx(weights["old_line"]["loss"][-1])
    assert first["lost"] == pytest.approx(weights["diagnosis"]["before"] - weights["diagnosis"]["after"])
    known = first["forgotten"]["events"]
    assert sum(known["samples"].values()) + known["unknown"] == 500
    assert sum(map(sum, first["forgotten"]["after"])) == 500

    page = browser.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    address = (tmp_path / "anatomy.html").as_uri()
    page.goto(address)
    places = page.locator(".plot")
    assert places.count() == 14
    page.wait_for_function("document.querySelectorAll('.plot > .plot-container').length === 14")
    assert complaints == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "a readout fitted anew" in page.inner_text("h1")
    page.close()


@pytest.mark.needs("datasets")
def test_a_learner_without_a_network_is_dissected_by_what_it_predicts(tmp_path: Path, lethe: Lethe) -> None:
    done = lethe("anatomy", "--learner", "ncm", "--samples", "640", "--seeds", "1", "--out", str(tmp_path))
    assert done.code == 0
    assert "points lost" in done.stdout
    (found,) = json.loads((tmp_path / "anatomy.json").read_text())["dissections"]
    assert found["weights"] is None
    assert found["accuracy"][found["switch"]] > 0.5 > found["accuracy"][0]
    page = (tmp_path / "anatomy.html").read_text()
    assert "What the old classes became" in page
    assert "The barrier" not in page


@pytest.mark.needs("datasets")
def test_the_path_and_the_barrier_of_a_solution_are_shown(tmp_path: Path, lethe: Lethe) -> None:
    arguments = ("--samples", "640", "--seeds", "1", "--option", "waves=64", "--out", str(tmp_path))
    done = lethe("anatomy", "--learner", "ridge", *arguments)
    assert re.search(r"[\d.]+\s(s|min .* s), at most [\d\s]+\sMiB of memory", done.stdout)
    (found,) = json.loads((tmp_path / "anatomy.json").read_text())["dissections"]
    solution = found["solution"]
    assert len(solution["path"]) == len(found["travelled"]) == len(found["samples"])
    assert found["travelled"][0] == 0 < found["travelled"][-1]
    assert 0 < solution["share"] <= 1
    assert found["barrier_old"] >= 0
    page = (tmp_path / "anatomy.html").read_text()
    for title in ("The path of the solution", "The barrier", "What the old classes became"):
        assert title in page
    assert "Where it was lost" not in page


@pytest.mark.needs("datasets")
def test_equal_seeds_are_dissected_equally_whichever_thread_takes_them() -> None:
    scenario = load_scenario("split-mnist")
    study = Study(scenario, ["finetune"], samples=300, seeds=2, grid=3, options={"backbone": "mlp"})
    shares: list[float] = []
    one, two = run_anatomy(study, lambda *at: shares.append(at[2])), run_anatomy(study)
    assert one.dissections == two.dissections
    assert one.dissections[0] != one.dissections[1]
    assert shares.count(1.0) == 2
    assert one.dissections[0].forgotten.after[5] == [0] * 10, "the old probe has the digits 0 and 1"
