"""The anatomy of learners of vectors: what is dissected, and what is refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import Lethe

pytestmark = pytest.mark.usefixtures("one_thread")

SCALE = ("--option", "location=0", "--option", "spread=1")
SMALL = ("--samples", "640", "--seeds", "1", "--grid", "3")


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    """A scenario whose second segment turns the classes of the first over."""
    random = np.random.default_rng(0)
    for name, sign in (("dry", 1), ("damp", -1)):
        x = random.normal(size=(800, 6)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, y=(sign * x[:, 0] > 0).astype(np.int64))
    path = tmp_path / "weather.yaml"
    path.write_text(
        "name: weather\nsegments:\n- {subject: dry, npz: dry.npz}\n- {subject: damp, npz: damp.npz}\n"
    )
    return str(path)


def test_a_network_whose_input_would_change_along_the_path_is_refused(
    lethe: Lethe, scenario: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    said = lethe.refuses("anatomy", "--scenario", scenario, "--learner", "finetune", "--out", out)
    assert "the samples of weather are vectors, and finetune follows their scale" in said
    assert "--option location=… and --option spread=…" in said
    assert not (tmp_path / "out").exists()


def test_a_network_of_standardised_vectors_is_dissected(lethe: Lethe, scenario: str, tmp_path: Path) -> None:
    arguments = ("--scenario", scenario, "--learner", "finetune", *SMALL, *SCALE, "--option", "lr=0.01")
    done = lethe("anatomy", *arguments, "--out", str(tmp_path / "out"), "--json")
    assert done.code == 0, done.stderr
    (found,) = json.loads(done.stdout)["dissections"]
    assert found["weights"]["layers"][0]["name"] == "1 Linear 256×6"
    assert found["accuracy"][found["switch"]] > 0.9
    assert found["accuracy"][-1] < 0.2
    line = found["weights"]["old_line"]["accuracy"]
    assert line[0] > 0.9 > line[-1], "the network is measured on what it was given while it learned"
    assert (tmp_path / "out" / "anatomy.html").exists()


@pytest.mark.parametrize(("learner", "option"), [("ridge", "waves=32"), ("ncm", "waves=32")])
def test_learners_of_sums_are_dissected_with_an_estimated_scale(
    lethe: Lethe, scenario: str, tmp_path: Path, learner: str, option: str
) -> None:
    arguments = ("--scenario", scenario, "--learner", learner, *SMALL, "--option", option)
    done = lethe("anatomy", *arguments, "--out", str(tmp_path / "out"))
    assert done.code == 0, done.stderr
    (found,) = json.loads((tmp_path / "out" / "anatomy.json").read_text())["dissections"]
    assert found["accuracy"][found["switch"]] > found["accuracy"][-1]
