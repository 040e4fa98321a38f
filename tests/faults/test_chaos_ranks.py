"""``lethe chaos --ranks``: a rank, the launcher, or all are killed, and the state ends with the same bits."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.long, pytest.mark.needs("embedded", "datasets")]


def chaos(kills: int, samples: int, learner: str) -> None:
    words = ["chaos", "--ranks", "2", "--kills", str(kills), "--samples", str(samples), "--learner", learner]
    done = subprocess.run(
        [sys.executable, "-m", "lethe", *words, "--json"], capture_output=True, text=True, timeout=7000
    )
    assert done.returncode == 0, done.stderr + done.stdout
    verdict = json.loads(done.stdout)["learners"][learner]
    assert (verdict["kills"], verdict["lost"], verdict["twice"]) == (kills, 0, 0)
    assert verdict["hashes_equal"]
    assert sum(verdict["killed"].values()) == kills
    assert set(verdict["killed"]) == {"rank", "launcher", "all"}


@pytest.mark.timeout(1200)
def test_each_target_is_killed_once() -> None:
    chaos(3, 600, "ncm")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("learner", ["ridge", "finetune"])
def test_twenty_five_kills(learner: str) -> None:
    chaos(25, 5000, learner)
