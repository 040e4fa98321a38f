"""What becomes of ranks that end: all end, or all start again."""

import os
import signal
import sys
from pathlib import Path
from threading import Thread

import pytest

from lethe.errors import LetheError, RankLost
from lethe.runtime.ranks.launch import launch
from tests.support.waiting import until

BEGIN = """
import os, pathlib, signal, sys, time
rank, folder = int(os.environ["RANK"]), pathlib.Path(sys.argv[1])
start = len(list(folder.glob(f"{rank}-*")))
(folder / f"{rank}-{start}").touch()
"""


def run(script: str, folder: Path, ranks: int = 2) -> int:
    return launch([sys.executable, "-c", BEGIN + script, str(folder)], ranks)


def starts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_ranks_that_succeed_end_with_success(tmp_path: Path) -> None:
    script = "assert (os.environ['WORLD_SIZE'], os.environ['LOCAL_WORLD_SIZE']) == ('3', '3')"
    assert run(script, tmp_path, ranks=3) == 0
    assert starts(tmp_path) == ["0-0", "1-0", "2-0"]


def test_an_error_of_one_ends_all_with_its_status(tmp_path: Path) -> None:
    status = run(f"sys.exit({LetheError.status} if rank else {RankLost.status})", tmp_path)
    assert status == LetheError.status
    assert starts(tmp_path) == ["0-0", "1-0"]


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(1)"])
def test_all_start_again_when_one_is_killed_or_crashes(end: str, tmp_path: Path) -> None:
    assert run(f"if start == 0:\n    {end} if rank else sys.exit({RankLost.status})", tmp_path) == 0
    assert starts(tmp_path) == ["0-0", "0-1", "1-0", "1-1"]


def test_a_rank_that_does_not_notice_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lethe.runtime.ranks.launch.GRACE_SECONDS", 0.1)
    script = f"""
if rank == 0:
    time.sleep(600)
while not (folder / "0-0").exists():
    time.sleep(0.01)
sys.exit({LetheError.status})
"""
    assert run(script, tmp_path) == LetheError.status
    assert starts(tmp_path) == ["0-0", "1-0"]


@pytest.mark.parametrize(("end", "status"), [("sys.exit(0)", 0), ("os._exit(3)", 3)])
def test_a_signal_is_passed_on_and_nothing_starts_again(end: str, status: int, tmp_path: Path) -> None:
    script = f"""
def stop(*_):
    {end}
signal.signal(signal.SIGTERM, stop)
(folder / f"ready-{{rank}}").touch()
time.sleep(600)
"""

    def ask() -> None:
        until(lambda: {"ready-0", "ready-1"} <= set(starts(tmp_path)), "both wait")
        os.kill(os.getpid(), signal.SIGTERM)

    asking = Thread(target=ask)
    asking.start()
    assert run(script, tmp_path) == status
    asking.join()
    assert starts(tmp_path) == ["0-0", "1-0", "ready-0", "ready-1"]
