"""The ledger is a chain that reveals every edit; a crash neither loses nor repeats a receipt."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lethe.errors import InvalidFile
from lethe.privacy.audit.ledger import Ledger, LedgerMark, read_entries, read_until
from lethe.privacy.audit.receipt import Receipt, Span


def receipt(number: int) -> Receipt:
    return Receipt(
        kind="batch",
        topic="images",
        spans=(Span(0, 64 * number, 64 * number + 64), Span(1, 0, 0)),
        received=64,
        learned=63,
        dead_lettered=1,
        received_at=1e9 + number / 7,
        learned_at=1e9 + number / 7 + 0.01,
        discarded_at=1e9 + number / 7 + 0.0101,
        retention="statistics",
        policy="ab" * 32,
    )


def written(path: Path, count: int) -> Ledger:
    ledger = Ledger(path)
    for number in range(count):
        ledger.add(receipt(number))
    ledger.force(ledger.mark)
    return ledger


def test_receipts_are_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = written(path, 5)
    entries = list(read_entries(path))
    assert [entry.receipt for entry in entries] == [receipt(number) for number in range(5)]
    assert entries[-1].mark == ledger.mark == LedgerMark(5, entries[-1].mark.head)
    assert ledger.pending == ()


def test_nothing_is_in_the_file_before_it_is_forced(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    ledger.add(receipt(0))
    assert not path.exists()
    assert len(ledger.pending) == 1


def test_200_random_single_byte_edits_are_all_detected(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    written(path, 40)
    genuine = path.read_bytes()
    rng = random.Random(0)
    for _ in range(200):
        edited = bytearray(genuine)
        at = rng.randrange(len(edited))
        edited[at] = rng.choice([byte for byte in range(256) if byte != edited[at]])
        path.write_bytes(edited)
        with pytest.raises(InvalidFile, match="receipt"):
            list(read_entries(path))


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(0, 9))
def test_removed_swapped_and_repeated_lines_are_detected(a: int, b: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        written(path, 10)
        lines = path.read_bytes().splitlines(keepends=True)
        for changed in (lines[:a] + lines[a + 1 :], [*lines[: a + 1], *lines[a:]], _swapped(lines, a, b)):
            path.write_bytes(b"".join(changed))
            if changed in (lines, lines[:9]):  # the last line's absence shows only against a checkpoint
                assert len(list(read_entries(path))) == len(changed)
            else:
                with pytest.raises(InvalidFile):
                    list(read_entries(path))


def _swapped(lines: list[bytes], a: int, b: int) -> list[bytes]:
    changed = list(lines)
    changed[a], changed[b] = changed[b], changed[a]
    return changed


@pytest.mark.parametrize("in_file", range(6))
def test_after_a_crash_the_checkpoints_pending_lines_complete_the_file(in_file: int, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = written(path, 3)
    for number in range(3, 8):
        ledger.add(receipt(number))
    mark, pending = ledger.mark, ledger.pending  # what the checkpoint holds
    with path.open("a") as file:  # the crash came while the file was appended to
        file.writelines(f"{line}\n" for line in pending[:in_file])
        file.write(pending[in_file][:20] if in_file < 5 else "")

    resumed = Ledger(path, mark, pending)

    assert resumed.mark == mark
    assert resumed.pending == ()
    assert [entry.receipt for entry in read_entries(path)] == [receipt(number) for number in range(8)]


def test_a_ledger_that_lacks_receipts_the_checkpoint_relies_on_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = written(path, 3)
    ledger.add(receipt(3))
    path.unlink()
    with pytest.raises(InvalidFile, match="missing"):
        Ledger(path, ledger.mark, ledger.pending)


def test_another_ledger_of_the_same_length_is_rejected(tmp_path: Path) -> None:
    path, other = tmp_path / "ledger.jsonl", tmp_path / "other.jsonl"
    mark = written(path, 2).mark
    ledger = Ledger(other)
    ledger.add(receipt(5))
    ledger.add(receipt(6))
    ledger.force(ledger.mark)
    with pytest.raises(InvalidFile, match="receipt 2"):
        Ledger(other, mark)


def test_after_falling_back_to_an_older_checkpoint_the_chain_continues_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    older = written(path, 2).mark
    ledger = Ledger(path, older)
    ledger.add(receipt(2))
    ledger.force(ledger.mark)

    resumed = Ledger(path, older)
    resumed.add(Receipt("rollback", "images", (Span(0, 128, 192),)))
    resumed.force(resumed.mark)

    assert [entry.receipt.kind for entry in read_entries(path)] == ["batch", "batch", "batch", "rollback"]


def test_receipts_up_to_a_checkpoint_are_read_while_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = written(path, 3)
    third = ledger.mark
    ledger.add(receipt(3))
    fourth, pending = ledger.mark, ledger.pending
    with path.open("a") as file:
        file.write(pending[0][:20])  # the service is writing it
    assert [entry.receipt for entry in read_until(path, third)] == [receipt(number) for number in range(3)]
    assert len(list(read_until(path, fourth, pending))) == 4
    assert len(list(read_until(tmp_path / "none", LedgerMark()))) == 0
    for place, lines in ((fourth, ()), (LedgerMark(3, "ab" * 32), ()), (LedgerMark(5, "ab" * 32), pending)):
        with pytest.raises(InvalidFile, match="receipt"):
            list(read_until(path, place, lines))
