"""The audit passes the ledger of a correct run, and names each promise that another ledger breaks."""

import json
import random
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from lethe.cli.main import app
from lethe.privacy.audit.ledger import Ledger, read_entries
from lethe.privacy.audit.receipt import AddedState, Receipt, Span
from lethe.privacy.audit.verify import audit
from lethe.privacy.policy import Policy
from tests.support.commands import Lethe
from tests.support.ledgers import POLICY, batch, failed, known, other, verdict_of


def test_a_compliant_run_passes(tmp_path: Path) -> None:
    verdict = verdict_of(
        tmp_path, batch(0), batch(64), other("purge", 0, 64, 1e9 + 20), batch(128), starts={0: 64}
    )
    assert verdict.passed
    assert verdict.learned == 192
    assert verdict.receipts == 4


@pytest.mark.parametrize(
    ("receipts", "question"),
    [
        ([batch(0), batch(128)], "Was each record learned once"),
        ([batch(0), batch(0)], "Was each record learned once"),
        ([batch(0, learned=63)], "Is every record accounted for"),
        ([batch(0, received=63, learned=63)], "Is every record accounted for"),
        ([batch(0, discarded_at=1e9 + 6)], "Was every sample discarded in time"),
        ([batch(0, retention="samples")], "Was no more retained than is allowed"),
        ([batch(0, policy=None)], "Was this policy in force"),
        (
            [batch(0, received_at=1e9 - 32, learned_at=1e9 - 31, discarded_at=1e9 - 30)],
            "Were learned records purged in time",
        ),
        ([batch(0), other("purge", 0, 64, 1e9 + 61)], "Were learned records purged in time"),
    ],
)
def test_each_broken_promise_is_found_and_no_other(
    receipts: list[Receipt], question: str, tmp_path: Path
) -> None:
    (found,) = failed(verdict_of(tmp_path, *receipts))
    assert found.startswith(question)


def test_records_lost_by_the_broker_and_dead_letters_are_accounted_for(tmp_path: Path) -> None:
    assert verdict_of(tmp_path, batch(0, received=60, learned=58, dead_lettered=2, lost=4)).passed


def test_records_that_were_rolled_back_may_be_learned_again(tmp_path: Path) -> None:
    rolled_back = other("rollback", 64, 192)
    assert verdict_of(tmp_path, batch(0), batch(64), batch(128), rolled_back, batch(64), batch(128)).passed


WEEK = Policy.model_validate(
    {"name": "week", "retention": "samples", "samples": {"capacity": 9, "ttl_seconds": 100}}
)


def kept(first: int, **more: Any) -> Receipt:
    return batch(first, retention="samples", policy=WEEK.digest, **more)


def let_go(first: int, until: int, at: float, received_at: float) -> Receipt:
    receipt = replace(other("expiry", first, until, at), received_at=received_at, erased=5)
    return replace(receipt, retention="samples", policy=WEEK.digest)


@pytest.mark.parametrize(
    ("receipts", "now", "passes"),
    [
        ([kept(0), kept(64)], 1e9 + 99, True),
        ([kept(0), kept(64)], 1e9 + 101, False),
        ([kept(0), let_go(0, 64, 1e9 + 99, 1e9), kept(64)], 1e9 + 100.5, True),
        ([kept(0), let_go(0, 64, 1e9 + 99, 1e9), kept(64)], 1e9 + 101.5, False),
        ([kept(0), let_go(0, 64, 1e9 + 101, 1e9)], 1e9 + 102, False),
        # what was rolled back is not kept since its first arrival, but since its second
        (
            [
                kept(0),
                kept(64),
                replace(other("rollback", 64, 128), policy=WEEK.digest),
                kept(64, received_at=1e9 + 50, learned_at=1e9 + 51, discarded_at=1e9 + 51),
                let_go(0, 64, 1e9 + 90, 1e9),
            ],
            1e9 + 140,
            True,
        ),
    ],
)
def test_a_sample_that_was_kept_too_long_is_found(
    receipts: list[Receipt], now: float, passes: bool, tmp_path: Path
) -> None:
    found = failed(verdict_of(tmp_path, *receipts, policy=WEEK, now=now))
    assert found == ([] if passes else ["Was no sample kept for too long?"])


@pytest.mark.parametrize(
    ("after", "passes"),
    [
        ([("erasure", 3)], True),
        ([("erasure", 65)], False),
        ([("erasure", 3), ("rollback", 3)], False),
        ([("erasure", 3), ("rollback", 3), ("erasure", 3)], True),
        ([("rollback", 0)], True),
    ],
)
def test_an_erased_sample_that_a_rollback_restored_is_found(
    after: list[tuple[str, int]], passes: bool, tmp_path: Path
) -> None:
    receipts = [replace(other(kind, 64, 64), spans=(), erased=count) for kind, count in after]
    question = "Are the erased samples still erased?"
    verdict = verdict_of(tmp_path, batch(0), *receipts)
    assert failed(verdict) == ([] if passes else [question])
    assert (question in [finding.question for finding in verdict.findings]) is (after != [("rollback", 0)])


def test_a_broker_that_still_serves_purged_records_is_found(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, batch(0), other("purge", 0, 64, 1e9 + 9), starts={0: 0})
    assert failed(verdict) == ["Does the broker still serve what was purged?"]


def test_a_truncated_ledger_is_found_by_its_checkpoint(tmp_path: Path) -> None:
    whole = Ledger(tmp_path / "whole.jsonl")
    whole.add(batch(0))
    whole.add(batch(64))
    two = known(whole.mark, 128)
    assert failed(verdict_of(tmp_path, batch(0), known=two)) == [
        "Does it reach as far as the newest checkpoint?"
    ]
    assert verdict_of(tmp_path, batch(64), known=two).passed


def test_an_edited_ledger_is_a_finding_not_an_error(tmp_path: Path) -> None:
    verdict_of(tmp_path, batch(0), batch(64))
    path = tmp_path / "ledger.jsonl"
    path.write_text(path.read_text().replace('"learned":64', '"learned":65', 1))
    assert failed(audit(read_entries(path), POLICY)) == ["Is the chain of receipts unbroken?"]


def lethe_audit(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_the_verdict_is_a_page_in_the_terminal_in_json_and_in_html(tmp_path: Path) -> None:
    verdict_of(tmp_path, batch(0), batch(64), other("purge", 0, 128, 1e9 + 20))
    policy = tmp_path / "ward <b>.yaml"
    policy.write_text(yaml.safe_dump(POLICY.model_dump(mode="json")))
    page = tmp_path / "audit.html"
    ledger = tmp_path / "ledger.jsonl"

    newest = list(read_entries(ledger))[-1].mark
    noted = "--head", f"{newest.sequence}:{newest.head}"
    status, shown = lethe_audit(ledger, "--policy", policy, "--html", page, *noted)
    assert (status, "Verdict: pass" in shown) == (0, True)
    status, shown = lethe_audit(ledger, "--policy", policy, "--json", *noted)
    verdict = json.loads(shown)
    assert (status, verdict["passed"], verdict["learned"], verdict["receipts"]) == (0, True, 128, 3)

    html = page.read_text()
    ElementTree.fromstring(html)  # what a file is called cannot break the page
    assert POLICY.digest in html
    for finding in verdict["findings"]:
        assert finding["question"] in html
    assert "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize("name", ["ledger.jsonl", "ward.yaml"])
def test_a_page_does_not_overwrite_what_is_audited(name: str, tmp_path: Path, lethe: Lethe) -> None:
    verdict_of(tmp_path, batch(0))
    policy = tmp_path / "ward.yaml"
    policy.write_text(yaml.safe_dump(POLICY.model_dump(mode="json")))
    before = (tmp_path / name).read_bytes()
    audited = [str(tmp_path / "ledger.jsonl"), "--policy", str(policy)]
    assert "--html " in lethe.refuses("audit", *audited, "--html", f"{tmp_path}/./{name}")
    assert (tmp_path / name).read_bytes() == before


def test_200_random_single_byte_edits_of_a_ledger_are_200_failed_audits(tmp_path: Path) -> None:
    receipts = [batch(64 * n) for n in range(30)]
    verdict_of(tmp_path, *receipts, other("purge", 0, 64 * 30, 1e9 + 20))
    path = tmp_path / "ledger.jsonl"
    genuine = path.read_bytes()
    assert audit(read_entries(path), POLICY, now=1e9 + 30).passed
    rng = random.Random(1)
    for _ in range(200):
        edited = bytearray(genuine)
        at = rng.randrange(len(edited))
        edited[at] = rng.choice([byte for byte in range(256) if byte != edited[at]])
        path.write_bytes(edited)
        assert not audit(read_entries(path), POLICY, now=1e9 + 30).passed, (at, edited[at])
    assert lethe_audit(path)[0] == 1


def test_a_merge_is_the_beginning_of_a_ledger(tmp_path: Path) -> None:
    merge = batch(0, kind="merge", states=(AddedState("ab" * 32, 3, "cd" * 32),))
    (tmp_path / "first").mkdir()
    assert verdict_of(tmp_path / "first", merge, batch(64)).passed
    again = replace(merge, spans=(Span(0, 64, 128),))
    assert failed(verdict_of(tmp_path, batch(0), again)) == [
        "Was each record learned once, and none left out?"
    ]


def test_only_what_was_learned_can_be_subtracted(tmp_path: Path) -> None:
    subtraction = replace(other("subtraction", 0, 64), erased=64)
    question = "Are the erased samples still erased?"
    verdict = verdict_of(tmp_path, batch(0), batch(64), subtraction)
    assert verdict.passed
    assert question in [finding.question for finding in verdict.findings]
    (tmp_path / "more").mkdir()
    more = replace(other("subtraction", 0, 65), erased=64)
    assert failed(verdict_of(tmp_path / "more", batch(0), more)) == [
        "Was each record learned once, and none left out?"
    ]
