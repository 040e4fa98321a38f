"""What a service may fall back to: the broker keeps records from there on, and no further."""

from pathlib import Path

import pytest

from service.errors import InvalidFile
from service.state_folder import StateFolder, checkpoint_files
from service.stream.source import Position
from tests.checkpoints import checkpoint, samples_of_newest


def flip(path: Path) -> None:
    """Change a bit of a tensor: only the SHA-256 tells."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_fallback_is_the_oldest_place_that_a_checkpoint_goes_on_from(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples, fallback in ((64, 64), (128, 64), (192, 64), (256, 128)):
            folder.write(checkpoint(samples))
            assert folder.fallback(Position({0: samples}, 0, "topic")).offsets == {0: fallback}
    with StateFolder(tmp_path, keep=3) as folder:  # after a restart, from the files alone
        assert folder.fallback(Position({0: 256}, 0, "topic")).offsets == {0: 128}
        checkpoint_files(tmp_path)[0].write_bytes(b"torn")
    with StateFolder(tmp_path, keep=3) as folder:
        assert folder.fallback(Position({0: 256}, 0, "topic")).offsets == {0: 192}


def test_a_partition_that_an_older_checkpoint_does_not_know_is_needed_from_its_start(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        assert folder.fallback(Position({0: 128, 1: 128}, 0, "topic")).offsets == {0: 64, 1: 0}


def test_checkpoints_of_a_topic_that_is_gone_hold_nothing_up(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        folder.write(checkpoint(64))
        assert folder.fallback(Position({0: 5}, 0, "another")).offsets == {0: 5}


def test_levelled_every_checkpoint_is_the_newest_and_each_can_be_read(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples in (64, 128, 192):
            folder.write(checkpoint(samples))
        folder.level()
        assert folder.fallback(Position({0: 192}, 0, "topic")).offsets == {0: 192}
        files = checkpoint_files(tmp_path)
        assert len(files) == 3
        for path in reversed(files):
            assert samples_of_newest(folder) == 192
            path.unlink()


def test_a_damaged_newest_takes_no_good_ones_place(tmp_path: Path) -> None:
    with StateFolder(tmp_path, keep=3) as folder:
        for samples in (64, 128, 192):
            folder.write(checkpoint(samples))
        *good, newest = checkpoint_files(tmp_path)
        before = [path.read_bytes() for path in good]
        flip(newest)
        with pytest.raises(InvalidFile, match="corrupt"):
            folder.level()
        assert [path.read_bytes() for path in good] == before
