"""The oldest position that a service may fall back to: the broker keeps records from there on."""

from pathlib import Path

import pytest

from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidFile
from lethe.stream.source import Position
from tests.support.checkpoints import checkpoint, samples_of_newest


def flip(path: Path) -> None:
    """Change a bit of a tensor, which only the SHA-256 reveals."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_fallback_is_the_oldest_position_of_a_checkpoint(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples, fallback in ((64, 64), (128, 64), (192, 64), (256, 128)):
            folder.write(checkpoint(samples))
            assert folder.earliest_position(Position({0: samples}, 0, "topic")).offsets == {0: fallback}
    with StateFolder(tmp_path, keep=3) as folder:  # after a restart, from the files alone
        assert folder.earliest_position(Position({0: 256}, 0, "topic")).offsets == {0: 128}
        checkpoint_files(tmp_path)[0].write_bytes(b"torn")
    with StateFolder(tmp_path, keep=3) as folder:
        assert folder.earliest_position(Position({0: 256}, 0, "topic")).offsets == {0: 192}


def test_a_partition_missing_from_an_older_checkpoint_is_needed_from_its_start(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        assert folder.earliest_position(Position({0: 128, 1: 128}, 0, "topic")).offsets == {0: 64, 1: 0}


def test_checkpoints_of_a_deleted_topic_do_not_count(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        assert folder.earliest_position(Position({0: 5}, 0, "another")).offsets == {0: 5}


def test_after_replace_older_every_checkpoint_equals_the_newest(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples in (64, 128, 192):
            folder.write(checkpoint(samples))
        folder.replace_older()
        assert folder.earliest_position(Position({0: 192}, 0, "topic")).offsets == {0: 192}
        files = checkpoint_files(tmp_path)
        assert len(files) == 3
        for path in reversed(files):
            assert samples_of_newest(folder) == 192
            path.unlink()


def test_a_damaged_newest_checkpoint_does_not_replace_good_ones(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples in (64, 128, 192):
            folder.write(checkpoint(samples))
        *good, newest = checkpoint_files(tmp_path)
        before = [path.read_bytes() for path in good]
        flip(newest)
        with pytest.raises(InvalidFile, match="corrupt"):
            folder.replace_older()
        assert [path.read_bytes() for path in good] == before
