"""The folder of checkpoints: one service at a time, the last few kept, the newest usable one found."""

import logging
import os
import signal
import stat
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from lethe.checkpointing.checkpoint import read_checkpoint, read_position
from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidFile, InvalidSetting
from lethe.files.private import restrict_to_owner
from lethe.privacy.audit.ledger import Ledger, read_entries
from lethe.privacy.audit.receipt import Receipt
from tests.support.checkpoints import checkpoint, refuse, samples_of_newest
from tests.support.forked import forked


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_an_empty_folder_has_no_newest(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "new" / "state", keep=3) as folder:
        assert folder.load_newest(refuse) is None


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
        newest = folder.load_newest(lambda path, _: passed_over.append(path))
        assert newest is not None
        assert newest.samples == 192
        assert passed_over == [files[-1]]


def test_after_its_topic_was_recreated_a_run_keeps_its_new_checkpoints(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=2) as folder:
        for offset in (10_000, 20_000, 64, 128):
            folder.write(checkpoint(offset))
            assert samples_of_newest(folder) == offset


def test_numbering_continues_after_a_restart(tmp_path: Path) -> None:
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
        with pytest.raises(
            InvalidFile,
            match=r"none of the 2 checkpoints .*-0+2\.safetensors is .*-0+1\.safetensors is .*--fresh",
        ):
            folder.load_newest(lambda path, _: passed_over.append(path))
        assert passed_over == checkpoint_files(tmp_path)[::-1]


def test_a_fresh_run_begins_anew_again_if_none_of_its_own_checkpoints_can_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.start_fresh("run")
        folder.write(checkpoint(64))
        (tmp_path / "ledger.jsonl").write_text("{}")
        damage(checkpoint_files(tmp_path)[0])
        torn = checkpoint_files(tmp_path)[0].read_bytes()
        folder.start_fresh("run")  # a supervisor's restart
        passed_over: list[Path] = []
        assert folder.load_newest(lambda path, _: passed_over.append(path), "run") is None
        assert passed_over
        assert "none of the 1 checkpoints" in caplog.text
        (aside,) = tmp_path.glob("before-*")
        assert [path.read_bytes() for path in checkpoint_files(aside)] == [torn]
        assert (aside / "ledger.jsonl").exists()
        folder.write(checkpoint(32))
        folder.start_fresh("run")
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
        assert folder.load_newest(refuse) is None
        (aside,) = tmp_path.glob("before-*")
        assert {path.name: path.read_bytes() for path in checkpoint_files(aside)} == before
        assert str(aside) in caplog.text


def test_a_repeated_fresh_flag_begins_anew_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        folder.start_fresh("one run")
        assert folder.load_newest(refuse) is None
        folder.write(checkpoint(128))
    with StateFolder(tmp_path, keep=3) as folder:
        folder.start_fresh("one run")  # a supervisor's restart
        assert samples_of_newest(folder) == 128
        assert "was started fresh before and is resumed" in caplog.text
        folder.start_fresh("another run")
        assert folder.load_newest(refuse) is None


def test_after_a_start_without_the_flag_it_counts_again(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.start_fresh("run")
        folder.write(checkpoint(64))
        folder.clear_fresh_marker()
        assert samples_of_newest(folder) == 64
        folder.start_fresh("run")
        assert folder.load_newest(refuse) is None


def test_a_fresh_start_that_was_killed_is_repeated(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        folder.set_aside()
        (tmp_path / "fresh.partial").write_text("ru")
    with StateFolder(tmp_path, keep=3) as folder:
        folder.start_fresh("run")
        assert folder.load_newest(refuse) is None
        assert (tmp_path / "fresh").read_text() == "run"


def test_partial_files_of_a_killed_service_are_removed(tmp_path: Path) -> None:
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


def test_a_file_that_is_renamed_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "checkpoint-000000000001.safetensors"

    def rename_first(path: Path) -> bool:
        if path.suffix == ".partial":
            path.rename(written)
        return restrict_to_owner(path)

    with StateFolder(tmp_path, keep=3):
        written.with_suffix(".partial").write_bytes(b"being written")
        monkeypatch.setattr("lethe.checkpointing.folder_lock.restrict_to_owner", rename_first)
        with pytest.raises(InvalidSetting, match=f"{tmp_path} is in use by another service"):
            StateFolder(tmp_path, keep=3)
    assert written.exists()


def hold(path: Path, ready: Connection) -> None:
    """Use the folder until killed."""
    folder = StateFolder(path, keep=3)
    ready.send(folder.folder)
    signal.pause()


def test_the_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
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


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
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


def test_a_folder_has_a_lasting_and_unique_identity(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b", "a"):
        with StateFolder(tmp_path / name, keep=3) as folder:
            found.append(folder.identity)
    assert found[0] == found[2] != found[1]


def test_other_users_cannot_read_a_checkpoint(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples in (64, 128, 192):
            folder.write(checkpoint(samples))
        folder.replace_older()
    assert {path.stat().st_mode & 0o777 for path in checkpoint_files(tmp_path)} == {0o600}


def rights(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_other_users_cannot_read_the_folder_or_its_files(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    with StateFolder(state, keep=3) as folder:
        folder.start_fresh("a run")
        for samples in (64, 128):
            folder.write(checkpoint(samples))
        folder.replace_older()
        ledger = Ledger(state / "ledger.jsonl")
        ledger.add(Receipt("erasure", "images", (), erased=1))
        ledger.force(ledger.mark)
        folder.set_aside()
        folder.write(checkpoint(192))
        ledger = Ledger(state / "ledger.jsonl")
        ledger.force(ledger.mark)
    assert rights(state) == 0o700
    found = {str(path.relative_to(state)).split("-")[0]: rights(path) for path in state.rglob("*")}
    assert found.keys() >= {"lock", "fresh", "before", "checkpoint", "ledger.jsonl"}
    assert all(rights(path) == (0o700 if path.is_dir() else 0o600) for path in state.rglob("*"))


def test_permissions_left_by_an_earlier_version_are_restricted(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
    (tmp_path / "ledger.jsonl").touch()
    for path in (tmp_path, *tmp_path.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    with StateFolder(tmp_path, keep=3):
        assert rights(tmp_path) == 0o700
        assert {rights(path) for path in tmp_path.iterdir()} == {0o600}


def test_a_folder_with_other_files_keeps_its_permissions_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "probes").mkdir()
    tmp_path.chmod(0o755)
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
    assert rights(tmp_path) == 0o755
    assert {rights(path) for path in tmp_path.iterdir() if path.is_file()} == {0o600}
    assert "other users can list the files" in caplog.text


@pytest.mark.parametrize(
    "name", ["checkpoint-000000000001.safetensors", "ledger.jsonl", "lock", "fresh", "x.partial", "before-1"]
)
def test_a_symbolic_link_in_the_folder_is_refused_by_name(name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("not to be overwritten")
    state = tmp_path / "state"
    state.mkdir()
    (state / name).symlink_to(outside)
    with pytest.raises(InvalidSetting, match=rf"{name} is a symbolic link"):
        StateFolder(state, keep=3)
    assert outside.read_text() == "not to be overwritten"


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "volume")
    with StateFolder(tmp_path / "state", keep=3) as folder:
        folder.write(checkpoint(64))
    assert checkpoint_files(tmp_path / "volume")


def test_a_link_created_later_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    state = tmp_path / "state"
    with StateFolder(state, keep=3) as folder:
        (state / "checkpoint-000000000001.safetensors.partial").symlink_to(outside)
        with pytest.raises(OSError, match="is a symbolic link"):
            folder.write(checkpoint(64))
        folder.write(checkpoint(64))
        (newest,) = checkpoint_files(state)
        newest.rename(outside)
        newest.symlink_to(outside)
        with pytest.raises(InvalidFile, match="is a symbolic link"):
            read_checkpoint(newest)
        with pytest.raises(InvalidFile, match="is a symbolic link"):
            read_position(newest)
        ledger = state / "ledger.jsonl"
        ledger.symlink_to(outside)
        with pytest.raises(InvalidFile, match="is a symbolic link"):
            Ledger(ledger)
        with pytest.raises(InvalidFile, match="is a symbolic link"):
            list(read_entries(ledger))


def test_the_key_of_dead_letters_is_created_once_is_private_and_survives_a_fresh_start(
    tmp_path: Path,
) -> None:
    with StateFolder(tmp_path, keep=2) as folder:
        key = folder.dead_letter_key()
        assert len(key) == 32
        assert stat.S_IMODE((tmp_path / "dead-letters.key").stat().st_mode) == 0o600
        folder.set_aside()
    with StateFolder(tmp_path, keep=2) as folder:
        assert folder.dead_letter_key() == key
    with StateFolder(tmp_path / "other", keep=2) as folder:
        assert folder.dead_letter_key() != key


@pytest.mark.parametrize("text", ["", "00", "no key"])
def test_an_invalid_key_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dead-letters.key").write_text(text)
    with (
        StateFolder(tmp_path, keep=2) as folder,
        pytest.raises(InvalidSetting, match=r"dead-letters\.key is not a key of 32 bytes"),
    ):
        folder.dead_letter_key()
