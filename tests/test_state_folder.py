"""The folder of checkpoints: one service at a time, the last few kept, the newest good one found."""

import logging
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from service.errors import InvalidFile, InvalidSetting
from service.state_folder import StateFolder, checkpoint_files
from tests.checkpoints import checkpoint, refuse, samples_of_newest
from tests.forked import forked


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_an_empty_folder_has_no_newest(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "new" / "state", keep=3) as folder:
        assert folder.newest(refuse) is None


def test_the_newest_is_the_last_that_was_written(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples in (64, 128, 192):
            folder.write(checkpoint(samples))
            assert samples_of_newest(folder) == samples


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=2) as folder:
        for samples in (64, 128, 192, 256):
            folder.write(checkpoint(samples))
            assert len(checkpoint_files(tmp_path)) <= 2
        files = checkpoint_files(tmp_path)
        damage(files[-1])
        passed_over: list[Path] = []
        newest = folder.newest(lambda path, _: passed_over.append(path))
        assert newest is not None
        assert newest.samples == 192
        assert passed_over == [files[-1]]


def test_a_run_whose_topic_was_created_anew_keeps_its_new_checkpoints(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=2) as folder:
        for offset in (10_000, 20_000, 64, 128):
            folder.write(checkpoint(offset))
            assert samples_of_newest(folder) == offset


def test_numbering_goes_on_after_a_restart(tmp_path: Path) -> None:
    for samples in (64, 128, 192):
        with StateFolder(tmp_path, keep=5) as folder:
            folder.write(checkpoint(samples))
    assert [path.stem[-3:] for path in checkpoint_files(tmp_path)] == ["001", "002", "003"]


def test_after_a_fallback_the_next_checkpoint_is_the_newest(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        folder.write(checkpoint(128))
        damage(checkpoint_files(tmp_path)[-1])
        folder.write(checkpoint(96))
        assert samples_of_newest(folder) == 96


def test_when_none_can_be_read_there_is_no_silent_fresh_start(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples in (64, 128):
            folder.write(checkpoint(samples))
        for path in checkpoint_files(tmp_path):
            damage(path)
        passed_over: list[Path] = []
        with pytest.raises(InvalidFile, match=r"none of the 2 checkpoints .* --fresh"):
            folder.newest(lambda path, _: passed_over.append(path))
        assert passed_over == checkpoint_files(tmp_path)[::-1]


def test_a_run_that_was_told_to_begin_anew_does_so_again_when_none_of_its_own_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.begin_anew("run")
        folder.write(checkpoint(64))
        (tmp_path / "ledger.jsonl").write_text("{}")
        damage(checkpoint_files(tmp_path)[0])
        torn = checkpoint_files(tmp_path)[0].read_bytes()
        folder.begin_anew("run")  # a supervisor's restart
        passed_over: list[Path] = []
        assert folder.newest(lambda path, _: passed_over.append(path), "run") is None
        assert passed_over
        assert "none of the 1 checkpoints" in caplog.text
        (aside,) = tmp_path.glob("before-*")
        assert [path.read_bytes() for path in checkpoint_files(aside)] == [torn]
        assert (aside / "ledger.jsonl").exists()
        folder.write(checkpoint(32))
        folder.begin_anew("run")
        assert samples_of_newest(folder) == 32


def test_a_fresh_start_sets_aside_and_deletes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), StateFolder(tmp_path, keep=3) as folder:
        folder.set_aside()
        assert not caplog.records
        for samples in (64, 128):
            folder.write(checkpoint(samples))
        before = {path.name: path.read_bytes() for path in checkpoint_files(tmp_path)}
        folder.set_aside()
        assert folder.newest(refuse) is None
        (aside,) = tmp_path.glob("before-*")
        assert {path.name: path.read_bytes() for path in checkpoint_files(aside)} == before
        assert str(aside) in caplog.text


def test_a_run_begins_anew_once_however_often_it_is_told_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        folder.begin_anew("one run")
        assert folder.newest(refuse) is None
        folder.write(checkpoint(128))
    with StateFolder(tmp_path, keep=3) as folder:
        folder.begin_anew("one run")  # a supervisor's restart
        assert samples_of_newest(folder) == 128
        assert "has begun anew before and goes on" in caplog.text
        folder.begin_anew("another run")
        assert folder.newest(refuse) is None


def test_a_start_without_the_wish_makes_it_count_again(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.begin_anew("run")
        folder.write(checkpoint(64))
        folder.go_on()
        assert samples_of_newest(folder) == 64
        folder.begin_anew("run")
        assert folder.newest(refuse) is None


def test_a_fresh_start_that_was_killed_halfway_is_made_again(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        folder.set_aside()
        (tmp_path / "fresh.partial").write_text("ru")
    with StateFolder(tmp_path, keep=3) as folder:
        folder.begin_anew("run")
        assert folder.newest(refuse) is None
        assert (tmp_path / "fresh").read_text() == "run"


def test_what_a_killed_service_was_writing_is_cleared_away(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
    (tmp_path / "checkpoint-000000000002.safetensors.partial").write_bytes(b"half")
    with StateFolder(tmp_path, keep=3) as folder:
        assert samples_of_newest(folder) == 64
    assert not list(tmp_path.glob("*.partial"))


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / "notes.txt", tmp_path / "checkpoint-of-mine.safetensors"]
    for path in others:
        path.write_bytes(b"mine")
    with StateFolder(tmp_path, keep=1) as folder:
        for samples in (64, 128):
            folder.write(checkpoint(samples))
        folder.set_aside()
    assert [path.read_bytes() for path in others] == [b"mine", b"mine"]


def test_a_second_service_on_the_folder_is_refused(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as first:
        with pytest.raises(InvalidSetting, match=f"{tmp_path} is in use by another service"):
            StateFolder(tmp_path, keep=3)
        first.write(checkpoint(64))
    with StateFolder(tmp_path, keep=3) as second:
        assert samples_of_newest(second) == 64


def test_a_refused_service_touches_nothing(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3):
        partial = tmp_path / "checkpoint-000000000001.safetensors.partial"
        partial.write_bytes(b"being written")
        with pytest.raises(InvalidSetting):
            StateFolder(tmp_path, keep=3)
        assert partial.exists()


def hold(path: Path, ready: Connection) -> None:
    """Use the folder until killed."""
    folder = StateFolder(path, keep=3)
    ready.send(folder.folder)
    signal.pause()


def test_the_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    context = forked()
    ours, theirs = context.Pipe()
    holder = context.Process(target=hold, args=(tmp_path, theirs))
    holder.start()
    try:
        assert ours.recv() == tmp_path
        with pytest.raises(InvalidSetting, match="in use by another service"):
            StateFolder(tmp_path, keep=3)
    finally:
        holder.kill()
        holder.join()
    StateFolder(tmp_path, keep=3).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidSetting, match=r"checkpoint\.folder .*/file/state: Not a directory"):
        StateFolder(tmp_path / "file" / "state", keep=3)


def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    def fail(step: str) -> None:
        raise OSError(5, os.strerror(5), step)

    with StateFolder(tmp_path, keep=1) as folder:
        folder.write(checkpoint(64))
        before = sorted(tmp_path.iterdir())
        with pytest.raises(OSError, match="Input/output error"):
            folder.write(checkpoint(128), fail)
        assert sorted(tmp_path.iterdir()) == before
        assert samples_of_newest(folder) == 64


def test_a_folder_is_known_again_and_no_other_is_mistaken_for_it(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b", "a"):
        with StateFolder(tmp_path / name, keep=3) as folder:
            found.append(folder.identity)
    assert found[0] == found[2] != found[1]


def test_nobody_else_may_read_a_checkpoint(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples in (64, 128, 192):
            folder.write(checkpoint(samples))
        folder.level()
    assert {path.stat().st_mode & 0o777 for path in checkpoint_files(tmp_path)} == {0o600}
