"""Forgeries of a ledger by someone who can write the state folder: what an audit and a witness find.

Each is chained anew, and the newest checkpoint names the forged head.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lethe.errors import InvalidFile, InvalidSetting
from lethe.privacy.audit.heads import HeadLine, WitnessedHeads, parse_heads, read_mark
from lethe.privacy.audit.ledger import Ledger, LedgerMark, read_entries
from lethe.privacy.audit.receipt import Receipt, Span
from lethe.privacy.audit.verify import CheckpointTotals, Verdict, audit
from tests.support.ledgers import POLICY, batch, failed, known, other

Lines = list[dict[str, Any]]

COUNTS = "Does it add up to what the newest checkpoint counts?"
CHAIN = "Is the chain of receipts unbroken?"
REACH = "Does it reach as far as the newest checkpoint?"
ONCE = "Was each record learned once, and none left out?"
TIMES = "Do the times run forwards?"
POLICIES = "Was this policy in force all the time?"
BALANCE = "Is every record accounted for?"
EARLY = "Was nothing purged before it was learned?"
OVERDUE = "Were learned records purged in time?"
WITNESS = "Does it match the heads at the witness?"
FOLDER = "0123456789abcdef"
NOW = 1e9 + 30


def genuine(path: Path) -> CheckpointTotals:
    """Write a ledger of eight batches and a purge; return the totals that its checkpoint holds."""
    ledger = Ledger(path)
    for number in range(8):
        ledger.add(batch(64 * number))
        if number == 5:
            ledger.add(other("purge", 0, 128, 1e9 + 5.6))
    ledger.force(ledger.mark)
    return known(ledger.mark, 512)


def chained(lines: Lines) -> tuple[str, LedgerMark]:
    previous, text = "0" * 64, ""
    for sequence, line in enumerate(lines, 1):
        body = {name: value for name, value in line.items() if name != "hash"}
        body |= {"sequence": sequence, "previous": previous}
        previous = hashlib.sha256(canonical(body).encode()).hexdigest()
        text += canonical(body | {"hash": previous}) + "\n"
    return text, LedgerMark(len(lines), previous)


def canonical(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"))


def verdict_of(path: Path, stands: CheckpointTotals | None, **more: Any) -> Verdict:
    return audit(read_entries(path), POLICY, stands, now=NOW, **more)


def edit(number: int, **changed: Any) -> Callable[[Lines], Lines]:
    return lambda lines: [line | changed if i == number else line for i, line in enumerate(lines)]


def every(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Lines], Lines]:
    return lambda lines: [line | change(line) if line["kind"] == "batch" else line for line in lines]


def swapped_for_a_rollback(lines: Lines) -> Lines:
    void = {"received": 0, "learned": 0, "received_at": 0.0, "learned_at": 0.0}
    hidden = lines[3] | void | {"kind": "rollback", "spans": lines[4]["spans"]}
    return [*lines[:3], hidden, *lines[4:]]


FORGERIES: dict[str, tuple[Callable[[Lines], Lines], set[str]]] = {
    "a receipt twice": (lambda lines: [*lines[:4], *lines[3:]], {ONCE, COUNTS}),
    "two swapped": (lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]], {ONCE, TIMES}),
    "the first gone": (lambda lines: lines[1:], {COUNTS}),
    "one in the middle gone": (lambda lines: [*lines[:3], *lines[4:]], {COUNTS, ONCE}),
    "the last gone": (lambda lines: lines[:-1], {COUNTS}),
    "one hidden by a rollback": (swapped_for_a_rollback, {COUNTS, ONCE}),
    "one declared lost": (edit(2, received=0, learned=0, lost=64), {COUNTS}),
    "one declared dead-lettered": (edit(2, learned=0, dead_lettered=64), {COUNTS}),
    "one declared skipped": (edit(2, received=0, learned=0, skipped=64), {COUNTS}),
    "another policy": (edit(2, policy="ab" * 32), {POLICIES}),
    "no policy": (edit(2, policy=None), {POLICIES}),
    "learned before it was received": (every(lambda line: {"received_at": line["learned_at"] + 1}), {TIMES}),
    "discarded before it was learned": (
        every(lambda line: {"learned_at": line["discarded_at"] + 1}),
        {TIMES},
    ),
    "a day ahead": (
        every(lambda line: {name: line[name] + 86400 for name in line if name.endswith("_at")}),
        {TIMES, OVERDUE},
    ),
    "purged before it was learned": (edit(6, spans=[{"partition": 0, "first": 0, "next": 9999}]), {EARLY}),
    "a purge that counts": (edit(6, received=1, dead_lettered=1), {BALANCE}),
    "another topic": (every(lambda _: {"topic": "other"}), {COUNTS}),
    "a field more": (edit(2, note="x"), {CHAIN, REACH}),
    "a field less": (
        lambda lines: [{k: v for k, v in line.items() if k != "lost"} for line in lines],
        {CHAIN, REACH},
    ),
    "a negative count": (edit(2, learned=65, dead_lettered=-1), {CHAIN, REACH}),
    "a count that is true": (edit(2, lost=False), {CHAIN, REACH}),
    "a count with a point": (edit(2, lost=0.0), {CHAIN, REACH}),
    "a time without one": (edit(2, learned_at=1_000_000_002), {CHAIN, REACH}),
    "a time that is none": (edit(2, learned_at=float("nan")), {CHAIN, REACH}),
    "a clock set forward": (edit(2, clock_step=9.0), {CHAIN, REACH}),
    "an unknown kind": (edit(2, kind="gift"), {CHAIN, REACH}),
    "an unknown retention": (edit(2, retention="everything"), {CHAIN, REACH}),
    "a policy that is no digest": (edit(2, policy="clinic"), {CHAIN, REACH}),
    "a span that runs backwards": (
        edit(2, spans=[{"partition": 0, "first": 192, "next": 128}]),
        {CHAIN, REACH},
    ),
    "two spans of a partition": (
        edit(
            2,
            spans=[{"partition": 0, "first": 128, "next": 160}, {"partition": 0, "first": 160, "next": 192}],
        ),
        {CHAIN, REACH},
    ),
}


def test_the_genuine_ledger_passes(tmp_path: Path) -> None:
    stands = genuine(tmp_path / "ledger")
    assert verdict_of(tmp_path / "ledger", stands).passed


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_with_new_hashes_that_the_checkpoint_names_is_found(name: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    stands = genuine(path)
    forge, found = FORGERIES[name]
    text, mark = chained(forge([json.loads(line) for line in path.read_text().splitlines()]))
    path.write_text(text)
    questions = set(failed(verdict_of(path, replace(stands, mark=mark))))
    if CHAIN in found:  # from there on nothing is read
        assert found <= questions
    else:
        assert questions - {OVERDUE} == found - {OVERDUE}


@pytest.mark.parametrize("text", ["", None])
def test_an_empty_or_missing_ledger_fails_under_a_policy_or_with_a_checkpoint(
    text: str | None, tmp_path: Path
) -> None:
    stands = genuine(tmp_path / "genuine")
    path = tmp_path / "ledger"
    if text is not None:
        path.write_text(text)
    assert not verdict_of(path, stands).passed
    assert not verdict_of(path, None).passed
    assert not audit(read_entries(path), None, stands).passed


def test_before_anything_is_learned_an_empty_ledger_passes(tmp_path: Path) -> None:
    (tmp_path / "ledger").touch()
    assert verdict_of(tmp_path / "ledger", known(LedgerMark(), 0)).passed
    assert failed(verdict_of(tmp_path / "ledger", known(LedgerMark(), 0, learned=64))) == [COUNTS]


def faster(lines: Lines) -> Lines:
    """Edit every time consistently, which no audit of a folder alone can find."""
    return every(
        lambda line: {"learned_at": line["received_at"] + 0.01, "discarded_at": line["received_at"] + 0.02}
    )(lines)


def heads_of(path: Path, *sequences: int) -> WitnessedHeads:
    entries = list(read_entries(path))
    name = entries[0].mark.head
    lines = [HeadLine(entries[n - 1].mark, 1e9 + n, FOLDER, name) for n in sequences]
    return WitnessedHeads(list(parse_heads(f"Nov 30 host lethe: {line}" for line in lines)), FOLDER)


def test_a_witness_or_a_noted_head_detects_what_the_folder_alone_cannot(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    stands = genuine(path)
    noted, witnessed = stands.mark, heads_of(path, 4, 9)
    assert verdict_of(path, stands, head=noted, witnessed=witnessed).passed
    text, mark = chained(faster([json.loads(line) for line in path.read_text().splitlines()]))
    path.write_text(text)
    stands = replace(stands, mark=mark)
    assert verdict_of(path, stands).passed
    assert failed(verdict_of(path, stands, head=noted)) == ["Does it contain the noted head?"]
    assert failed(verdict_of(path, stands, witnessed=witnessed)) == [WITNESS]


def test_a_restored_older_folder_is_behind_its_witness(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    genuine(path)
    witnessed = heads_of(path, 4, 9)
    older = path.read_text().splitlines(keepends=True)[:4]
    path.write_text("".join(older))
    stands = known(list(read_entries(path))[-1].mark, 256)
    assert verdict_of(path, stands).passed
    verdict = verdict_of(path, stands, witnessed=witnessed)
    assert failed(verdict) == [WITNESS]
    assert "receipt 9 is different or missing" in verdict.findings[3].answer


def test_a_ledger_without_a_head_at_the_witness_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    stands = genuine(path)
    witnessed = heads_of(path, 4, 9)
    fresh = replace(witnessed.lines[-1], ledger="ab" * 32, at=2e9)
    for lines, folder in (
        ([], FOLDER),
        (witnessed.lines, "f" * 16),
        ([*witnessed.lines, fresh], FOLDER),  # a newer ledger of the same folder was begun
    ):
        assert failed(verdict_of(path, stands, witnessed=WitnessedHeads(lines, folder))) == [WITNESS]
    before = replace(fresh, at=1.0)  # and an older one was set aside by a fresh start
    other_service = replace(fresh, folder="e" * 16)
    for lines in ([before, *witnessed.lines], [*witnessed.lines, other_service]):
        assert verdict_of(path, stands, witnessed=WitnessedHeads(lines, FOLDER)).passed


@pytest.mark.parametrize("text", ["", "5", "5:abc", "x:" + "a" * 64, "-1:" + "a" * 64, "5:" + "a" * 65])
def test_an_invalid_head_is_rejected(text: str) -> None:
    with pytest.raises(InvalidSetting, match="is not SEQ:HASH"):
        read_mark(text)


def test_a_rollback_must_go_back_to_the_position_of_its_checkpoint(tmp_path: Path) -> None:
    def check(rollback: Receipt, stands: int, name: str) -> list[str]:
        ledger = Ledger(tmp_path / name)
        for receipt in (batch(0), batch(64), batch(128), rollback, batch(64), batch(128)):
            ledger.add(receipt)
        ledger.force(ledger.mark)
        return failed(verdict_of(tmp_path / name, known(ledger.mark, stands)))

    back = replace(other("rollback", 64, 192, 1e9 + 3), back_to=1)
    assert check(back, 192, "as it was") == []
    assert check(replace(back, back_to=None), 192, "of an earlier version") == []
    assert check(replace(back, back_to=2), 192, "another checkpoint") == [COUNTS, ONCE]
    assert check(replace(back, spans=(Span(0, 0, 192),)), 192, "further back") == [ONCE]
    assert check(replace(back, spans=(Span(0, 32, 192),), back_to=None), 192, "in a batch") == [COUNTS, ONCE]


def test_a_clock_that_was_set_back_is_reported_as_such(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    hour = {name: getattr(batch(64), name) - 3600 for name in ("received_at", "learned_at", "discarded_at")}
    ledger.add(batch(0))
    ledger.add(batch(64, **hour))
    ledger.force(ledger.mark)
    verdict = verdict_of(tmp_path / "ledger", known(ledger.mark, 128))
    assert failed(verdict) == [OVERDUE]  # in an hour
    assert any("the clock was set back 1 times, by 3599.0 s at most" in f.answer for f in verdict.findings)
    resumed = Ledger(tmp_path / "ledger", ledger.mark)
    resumed.add(batch(128, **{name: at - 3600 for name, at in hour.items()}))  # while it was stopped
    resumed.force(resumed.mark)
    assert [entry.receipt.clock_step for entry in read_entries(tmp_path / "ledger")] == [0, -3599, -3600]


def test_a_service_does_not_continue_an_invalid_ledger(tmp_path: Path) -> None:
    genuine(tmp_path / "ledger")
    lines = [json.loads(line) for line in (tmp_path / "ledger").read_text().splitlines()]
    text, mark = chained(edit(2, learned=-1)(lines))
    (tmp_path / "ledger").write_text(text)
    with pytest.raises(InvalidFile, match="a count is not a whole number"):
        Ledger(tmp_path / "ledger", mark)
