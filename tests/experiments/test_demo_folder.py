"""The demo's folder: an earlier demo's files are deleted, and nothing else."""

from pathlib import Path

import pytest

from lethe.checkpointing.state_folder import StateFolder, checkpoint_files
from lethe.errors import InvalidSetting
from lethe.experiments.demo.folder import fresh_folder
from tests.support.checkpoints import checkpoint


def left_by_a_demo(folder: Path) -> Path:
    """A service's state, and what its last start had set aside; returns its folder."""
    state = folder / "ridge" / "state"
    with StateFolder(state, keep=3) as kept:
        kept.write(checkpoint(64))
        (state / "ledger.jsonl").write_text("{}")
        kept.set_aside()
        kept.write(checkpoint(128))
        (state / "ledger.jsonl").write_text("{}")
    (folder / "ridge" / "service.log").touch()
    return state


def test_an_earlier_demos_checkpoints_and_ledgers_are_gone(tmp_path: Path) -> None:
    state = left_by_a_demo(tmp_path)
    assert list(state.glob("before-*/*"))
    fresh_folder(tmp_path)
    assert not [path for path in state.rglob("*") if path.name != "lock"]


def test_a_state_that_no_demo_made_is_not_touched(tmp_path: Path) -> None:
    state = left_by_a_demo(tmp_path)
    (tmp_path / "ridge" / "service.log").unlink()
    before = sorted(state.rglob("*"))
    fresh_folder(tmp_path)
    assert sorted(state.rglob("*")) == before


def test_other_files_beside_an_earlier_demos_state_stay(tmp_path: Path) -> None:
    state = left_by_a_demo(tmp_path)
    (aside,) = state.glob("before-*")
    mine = [state / "notes.txt", aside / "notes.txt", tmp_path / "notes.txt"]
    for path in mine:
        path.write_text("mine")
    fresh_folder(tmp_path)
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_a_demo_that_still_runs_there_keeps_its_state(tmp_path: Path) -> None:
    state = left_by_a_demo(tmp_path)
    with StateFolder(state, keep=3):
        with pytest.raises(InvalidSetting, match="in use by another service"):
            fresh_folder(tmp_path)
        assert checkpoint_files(state)
