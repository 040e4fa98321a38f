"""``lethe bench restart`` measures how long a killed service takes to restart."""

import json
import subprocess
import sys

import pytest


@pytest.mark.long
@pytest.mark.needs("embedded")
def test_a_restart_is_measured_by_its_parts() -> None:
    words = ["bench", "restart", "--learner", "finetune", "--turns", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "lethe", *words], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["learner"], found["restarts"]) == ("finetune", 1)
    assert 0 < found["imports"] < found["seconds"]
    assert found["rest"] == pytest.approx(found["seconds"] - found["imports"])
    assert found["bytes"] > 1_000_000
