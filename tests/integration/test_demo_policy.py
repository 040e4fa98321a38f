"""``lethe demo --policy``: enforced, audited at the end, and refused for a learner that it forbids."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lethe.cli.main import app
from lethe.privacy.audit.ledger import read_entries
from tests.support.demos import run, start

pytestmark = [pytest.mark.needs("datasets"), pytest.mark.needs("embedded")]


def test_a_demo_under_a_policy_is_audited_and_nothing_is_left_in_the_broker(tmp_path: Path) -> None:
    policy = tmp_path / "ward.yaml"
    policy.write_text("{name: ward, retention: nothing, residency_seconds: 60, purge: {within_seconds: 600}}")
    document = run(tmp_path / "report", "--policy", str(policy))
    verdict = document["learners"]["finetune"]["audit"]
    assert verdict["passed"], verdict
    assert verdict["learned"] == 1200
    (ledger,) = (tmp_path / "report").rglob("ledger*.jsonl")
    purges = [entry.receipt for entry in read_entries(ledger) if entry.receipt.kind == "purge"]
    assert purges[-1].spans[-1].next == 1200
    assert "Verdict: <span" in (tmp_path / "report" / "finetune" / "audit.html").read_text()
    again = CliRunner().invoke(app, ["audit", str(ledger), "--policy", str(policy), "--json"])
    assert json.loads(again.stdout)["passed"]


@pytest.mark.long
def test_ranks_of_a_demo_keep_to_a_policy(tmp_path: Path) -> None:
    document = run(tmp_path / "report", "--policy", "clinic", "--learner", "ncm", "--ranks", "2")
    verdict = document["learners"]["ncm"]["audit"]
    assert verdict["passed"], verdict
    assert verdict["learned"] == 1200


@pytest.mark.parametrize(
    ("learner", "why"),
    [
        ("ridge", "learner ridge keeps statistics, policy vault allows nothing"),
        ("finetune", "learner finetune is not differentially private, policy vault has a budget"),
    ],
)
def test_a_learner_beyond_the_policy_is_refused_before_anything_starts(
    learner: str, why: str, tmp_path: Path
) -> None:
    process = start(tmp_path, "--policy", "vault", "--learner", learner)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert why in " ".join((stdout + stderr).split())
    assert not (tmp_path / learner).exists()
