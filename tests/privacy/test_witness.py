"""Each head that is on the disk is recorded at the witness, without making anyone wait, and retried."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lethe.checkpointing.state_folder import StateFolder
from lethe.errors import BrokerUnavailable, InvalidFile, InvalidSetting
from lethe.events import WitnessStatus
from lethe.learners.base import Retention
from lethe.privacy.audit.heads import HeadLine, parse_heads
from lethe.privacy.audit.ledger import Ledger, LedgerMark, read_entries
from lethe.privacy.audit.receipt_writer import Receipts, open_receipts
from lethe.privacy.audit.witness import HeadSink, Witness, open_witness, read_witness
from lethe.privacy.controls import PolicyControls
from lethe.privacy.policy import Policy
from lethe.settings import Settings
from lethe.stream.settings import StreamSettings
from tests.support.checkpoints import checkpoint
from tests.support.filled import filled
from tests.support.waiting import until

FOLDER = "0123456789abcdef"
LEDGER = "ab" * 32
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)


def mark(sequence: int) -> LedgerMark:
    return LedgerMark(sequence, f"{sequence:064x}")


@contextmanager
def witnessing(place: HeadSink, retry: float = 0.01) -> Iterator[Witness]:
    witness = Witness(place, FOLDER, "the place", retry)
    try:
        yield witness
    finally:
        witness.close()


class Memory:
    """Accepts lines while ``up``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.up = threading.Event()
        self.up.set()
        self.attempts = 0

    def append(self, line: str, key: str) -> None:
        assert key == FOLDER
        self.attempts += 1
        if not self.up.is_set():
            raise BrokerUnavailable("it is down")
        self.lines.append(line)

    def close(self) -> None:
        self.up.clear()


@given(st.integers(1, 10**17), HASHES, st.floats(0, 4e9), HASHES)
def test_a_line_is_read_back_among_any_other_lines(n: int, head: str, at: float, ledger: str) -> None:
    line = HeadLine(LedgerMark(n, head), round(at, 3), FOLDER, ledger)
    (read,) = parse_heads([f"<13>1 host lethe - {line}\r"])
    assert (read.mark, read.folder, read.ledger) == (line.mark, FOLDER, ledger)
    assert read.at == pytest.approx(line.at, abs=0.002)
    assert list(parse_heads(["", "nonsense", str(line)[:-1], str(line).replace("T", " ", 1)])) == []


def test_each_head_is_recorded_and_its_status_is_a_change_once(tmp_path: Path) -> None:
    place = Memory()
    with witnessing(place) as witness:
        assert list(witness.changes()) == []
        for sequence in (1, 5):
            witness.note(mark(sequence), LEDGER)
            until(lambda: len(place.lines) == (1 if sequence == 1 else 2), "it is published")  # noqa: B023
            until(lambda: WitnessStatus(True, sequence, "") in list(witness.changes()), "so is the run")  # noqa: B023
            assert list(witness.changes()) == []
    assert [line.mark for line in parse_heads(place.lines)] == [mark(1), mark(5)]


def test_an_outage_blocks_nothing_and_the_newest_head_is_recorded_afterwards() -> None:
    place = Memory()
    place.up.clear()
    with witnessing(place) as witness:
        began = time.monotonic()
        for sequence in range(1, 100):
            witness.note(mark(sequence), LEDGER)
        assert time.monotonic() - began < 10
        until(lambda: place.attempts > 2, "it is tried again")
        assert list(witness.changes()) == [WitnessStatus(False, 0, "the place: it is down")]
        place.up.set()
        until(lambda: bool(place.lines), "it is back")
        until(lambda: WitnessStatus(True, 99, "") in list(witness.changes()), "the run knows")
    assert [line.mark for line in parse_heads(place.lines)] == [mark(99)]


def test_the_last_head_is_recorded_before_a_service_ends_or_the_log_has_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Memory()
    with witnessing(place) as witness:
        witness.note(mark(1), LEDGER)
    assert len(place.lines) == 1
    assert not caplog.records
    with witnessing(place) as witness:  # it is closed, and takes nothing
        witness.note(mark(2), LEDGER)
    assert f"2:{mark(2).head}" in caplog.text
    assert "it is down" in caplog.text


def test_a_pipe_without_a_reader_does_not_block(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with open_witness(str(pipe), StreamSettings(), FOLDER) as witness:
        assert isinstance(witness, Witness)
        witness.note(mark(1), LEDGER)
        until(lambda: any(not news.up for news in witness.changes()), "nobody reads")
        with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)) as reader:
            witness.note(mark(2), LEDGER)
            until(lambda: WitnessStatus(True, 2, "") in list(witness.changes()), "it is read")
            witness.close()
            (line,) = parse_heads(reader.read().splitlines())
    assert line.mark == mark(2)


def run(state: Path, place: Path, folder: StateFolder, first: int) -> Receipts:
    """Learn 40 records, take a checkpoint, and pass its head to the witness."""
    controls = PolicyControls(Policy(name="ward", retention=Retention.STATISTICS))
    newest = folder.load_newest(lambda *_: None)
    with open_witness(str(place), StreamSettings(), folder.identity) as witness:
        receipts = open_receipts(folder, "images", Retention.STATISTICS, controls, newest, witness=witness)
        receipts.discarded(filled(first), time.monotonic(), first + 40)
        made = replace(checkpoint(first + 40), ledger=receipts.snapshot())
        folder.write(made)
        receipts.on_disk(made)
    return receipts


def test_a_file_has_every_head_that_is_in_the_ledger_over_restarts_and_a_fresh_start(tmp_path: Path) -> None:
    state, place = tmp_path / "state", tmp_path / "heads"
    for first in (0, 40):
        with StateFolder(state, keep=3) as folder:
            run(state, place, folder, first)
    witnessed = read_witness(str(place), StreamSettings(), state)
    entries = list(read_entries(state / "ledger.jsonl"))
    assert [line.mark for line in witnessed.lines] == [entry.mark for entry in entries]
    assert {(line.folder, line.ledger) for line in witnessed.lines} == {
        (witnessed.folder, entries[0].mark.head)
    }
    with StateFolder(state, keep=3) as folder:
        folder.set_aside()
        run(state, place, folder, 0)
    lines = read_witness(str(place), StreamSettings(), state).lines
    assert [line.mark.sequence for line in lines] == [1, 2, 1]
    assert len({line.ledger for line in lines}) == 2


def test_unreadable_and_invalid_witnesses_are_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="heads"):
        read_witness(str(tmp_path / "heads"), StreamSettings(), tmp_path)
    with pytest.raises(InvalidSetting, match=r"checkpoint\.folder"):
        Settings.read({"privacy": {"witness": "heads"}})
    for witness, why in (
        (str(tmp_path / "state" / "heads"), "is inside checkpoint.folder"),
        ("topic:images", "is a topic of records"),
        ("topic:images.dead-letters", "is a topic of records"),
        ("topic:a b", "is not a valid topic name"),
    ):
        with pytest.raises(InvalidSetting, match=rf"privacy\.witness.*{why}"):
            Settings.read({"privacy": {"witness": witness}, "checkpoint": {"folder": tmp_path / "state"}})
    assert Ledger(tmp_path / "none").first == ""
