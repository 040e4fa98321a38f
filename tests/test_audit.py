"""The audit: a ledger of a run as promised passes, and each broken promise is found by name."""

import json
import random
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from service.cli import app
from service.privacy.audit import Verdict, audit
from service.privacy.ledger import Ledger, LedgerMark, Receipt, Span, read_entries
from service.privacy.policy import Policy

POLICY = Policy.model_validate(
    {"name": "ward", "retention": "statistics", "residency_seconds": 5, "purge": {"within_seconds": 60}}
)


def batch(first: int, **more: Any) -> Receipt:
    """64 records from offset ``first`` on, learned a second per batch."""
    at = 1e9 + first / 64
    receipt = Receipt(
        kind="batch",
        topic="images",
        spans=(Span(0, first, first + 64),),
        received=64,
        learned=64,
        received_at=at,
        learned_at=at + 0.4,
        discarded_at=at + 0.5,
        retention="statistics",
        policy=POLICY.digest,
    )
    return replace(receipt, **more)


def other(kind: Any, first: int, until: int, at: float = 1e9) -> Receipt:
    return replace(batch(0), kind=kind, spans=(Span(0, first, until),), discarded_at=at)


def judged(folder: Path, *receipts: Receipt, **more: Any) -> Verdict:
    path = folder / "ledger.jsonl"
    ledger = Ledger(path)
    for receipt in receipts:
        ledger.add(receipt)
    ledger.force(ledger.mark)
    given: dict[str, Any] = {"policy": POLICY, "now": 1e9 + 30} | more
    return audit(read_entries(path), **given)


def failed(verdict: Verdict) -> list[str]:
    return [finding.question for finding in verdict.findings if not finding.passed]


def test_a_run_as_promised_passes(tmp_path: Path) -> None:
    verdict = judged(
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
        ([batch(0, learned_at=1e9 - 31)], "Was the broker told in time"),
        ([batch(0), other("purge", 0, 64, 1e9 + 61)], "Was the broker told in time"),
    ],
)
def test_each_broken_promise_is_found_and_no_other(
    receipts: list[Receipt], question: str, tmp_path: Path
) -> None:
    (found,) = failed(judged(tmp_path, *receipts))
    assert found.startswith(question)


def test_records_lost_by_the_broker_and_dead_letters_are_accounted_for(tmp_path: Path) -> None:
    assert judged(tmp_path, batch(0, received=60, learned=58, dead_lettered=2, lost=4)).passed


def test_what_was_rolled_back_is_learned_again(tmp_path: Path) -> None:
    rolled_back = other("rollback", 64, 192)
    assert judged(tmp_path, batch(0), batch(64), batch(128), rolled_back, batch(64), batch(128)).passed


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
    found = failed(judged(tmp_path, *receipts, policy=WEEK, now=now))
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
def test_what_was_forgotten_on_demand_and_came_back_is_found(
    after: list[tuple[str, int]], passes: bool, tmp_path: Path
) -> None:
    receipts = [replace(other(kind, 64, 64), spans=(), erased=count) for kind, count in after]
    question = "Is what was forgotten on demand still forgotten?"
    verdict = judged(tmp_path, batch(0), *receipts)
    assert failed(verdict) == ([] if passes else [question])
    assert (question in [finding.question for finding in verdict.findings]) is (after != [("rollback", 0)])


def test_a_broker_that_still_serves_what_was_purged_is_found(tmp_path: Path) -> None:
    verdict = judged(tmp_path, batch(0), other("purge", 0, 64, 1e9 + 9), starts={0: 0})
    assert failed(verdict) == ["Does the broker still serve what was purged?"]


def test_a_ledger_cut_short_is_found_by_the_checkpoint_beside_it(tmp_path: Path) -> None:
    whole = Ledger(tmp_path / "whole.jsonl")
    whole.add(batch(0))
    whole.add(batch(64))
    assert failed(judged(tmp_path, batch(0), mark=whole.mark)) == [
        "Does it reach as far as the newest checkpoint?"
    ]
    assert judged(tmp_path, batch(64), mark=whole.mark).passed
    assert judged(tmp_path, mark=LedgerMark()).passed


def test_an_edited_ledger_is_a_finding_not_an_error(tmp_path: Path) -> None:
    judged(tmp_path, batch(0), batch(64))
    path = tmp_path / "ledger.jsonl"
    path.write_text(path.read_text().replace('"learned":64', '"learned":65', 1))
    assert failed(audit(read_entries(path), POLICY)) == ["Is the chain of receipts unbroken?"]


def lethe_audit(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["audit", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_the_verdict_is_a_page_in_the_terminal_in_json_and_in_html(tmp_path: Path) -> None:
    judged(tmp_path, batch(0), batch(64, topic="images"), other("purge", 0, 128, 1e9 + 20))
    policy = tmp_path / "ward <b>.yaml"
    policy.write_text(yaml.safe_dump(POLICY.model_dump(mode="json")))
    page = tmp_path / "audit.html"
    ledger = tmp_path / "ledger.jsonl"

    status, shown = lethe_audit(ledger, "--policy", policy, "--html", page)
    assert (status, "Verdict: pass" in shown) == (0, True)
    status, shown = lethe_audit(ledger, "--policy", policy, "--json")
    verdict = json.loads(shown)
    assert (status, verdict["passed"], verdict["learned"], verdict["receipts"]) == (0, True, 128, 3)

    html = page.read_text()
    ElementTree.fromstring(html)  # what a file is called cannot break the page
    assert POLICY.digest in html
    for finding in verdict["findings"]:
        assert finding["question"] in html
    assert "http" not in html.replace("http-equiv", "")


def test_200_random_single_byte_edits_of_a_ledger_are_200_failed_audits(tmp_path: Path) -> None:
    receipts = [batch(64 * n) for n in range(30)]
    judged(tmp_path, *receipts, other("purge", 0, 64 * 30, 1e9 + 20))
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
