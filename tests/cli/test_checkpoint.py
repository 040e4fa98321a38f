"""The commands lethe checkpoint …: their output, and their errors for unreadable files."""

from pathlib import Path

import pytest

from lethe.checkpointing.checkpoint import write_checkpoint
from tests.support.checkpoints import checkpoint
from tests.support.commands import Lethe


@pytest.fixture(params=["state", "st[/b]", "st[red]"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A state folder with two checkpoints, after 64 and 1,280 samples; some names look like markup."""
    folder: Path = tmp_path / request.param
    folder.mkdir(parents=True)
    for number, samples in enumerate((64, 1280), start=1):
        write_checkpoint(checkpoint(samples), file(folder, number))
    return folder


def file(folder: Path, number: int) -> Path:
    return folder / f"checkpoint-{number:012d}.safetensors"


def rows(shown: str) -> list[list[str]]:
    """The cells of a table's rows."""
    lines = [line for line in shown.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_list_shows_every_file_with_its_size(lethe: Lethe, folder: Path) -> None:
    done = lethe("checkpoint", "list", str(folder))
    assert done.code == 0
    assert str(folder) in done.stdout.replace("\n", "")
    shown = [(name, size, samples) for name, _, size, samples in rows(done.stdout)]
    files = {file(folder, 1): "64", file(folder, 2): "1,280"}
    assert shown == [(path.name, f"{path.stat().st_size:,}", samples) for path, samples in files.items()]


def test_show_describes_the_newest_checkpoint(lethe: Lethe, folder: Path) -> None:
    done = lethe("checkpoint", "show", str(folder))
    assert done.code == 0
    assert str(file(folder, 2)) in done.stdout.replace("\n", "")
    held = dict(rows(done.stdout))
    assert held["samples learned"] == "1,280"
    assert held["SHA-256 of the learner"] == checkpoint(1280).digest
    assert held["partition 0 resumes at"] == "1280"
    assert held["learner.name"] == "made up"
    assert held["tensors"] == "weights (2, 3)"


def test_verify_finds_good_files_good(lethe: Lethe, folder: Path) -> None:
    done = lethe("checkpoint", "verify", str(folder))
    assert done.code == 0
    assert rows(done.stdout) == [
        [file(folder, 1).name, "good, 64 samples learned"],
        [file(folder, 2).name, "good, 1,280 samples learned"],
    ]


def test_verify_names_the_corrupt_file_and_exits_with_1(lethe: Lethe, folder: Path) -> None:
    content = bytearray(file(folder, 1).read_bytes())
    content[-1] ^= 1
    file(folder, 1).write_bytes(content)
    done = lethe("checkpoint", "verify", str(folder))
    assert done.code == 1
    bad, good = rows(done.stdout)
    assert bad == [file(folder, 1).name, f"{file(folder, 1)} is corrupt: its SHA-256 does not match"]
    assert good == [file(folder, 2).name, "good, 1,280 samples learned"]


@pytest.mark.parametrize("command", ["list", "verify"])
def test_a_file_that_a_live_service_drops_meanwhile_is_passed_over(
    lethe: Lethe, folder: Path, command: str
) -> None:
    file(folder, 0).symlink_to(folder / "dropped")  # it has a name, and is gone when it is looked at
    done = lethe("checkpoint", command, str(folder))
    assert done.code == 0
    assert [row[0] for row in rows(done.stdout)] == [file(folder, 1).name, file(folder, 2).name]


@pytest.mark.parametrize("command", ["list", "show", "verify"])
@pytest.mark.parametrize("name", [".", "st[/b]", "nowhere"])
def test_a_folder_without_checkpoints_is_refused_in_one_line(
    lethe: Lethe, tmp_path: Path, command: str, name: str
) -> None:
    (tmp_path / "st[/b]").mkdir(parents=True)
    said = lethe.refuses("checkpoint", command, str(tmp_path / name))
    assert said == f"lethe: {tmp_path / name} holds no checkpoints"
