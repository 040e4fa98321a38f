"""Child processes of the demo: they do not outlive it, however it is asked to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.demo.processes import ChildFailed, Children
from tests.waiting import until

HOST = """
import sys, time
from pathlib import Path
from service.demo.processes import Children
with Children() as children:
    child = children.run("sleeper", ["sleep", "600"], Path(sys.argv[1]) / "log", {})
    print(child.pid, flush=True)
    time.sleep(600)
"""


def there(pid: int) -> bool:
    """Whether the process runs; one that has ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_host_that_is_asked_to_end_ends_its_children_first(number: signal.Signals, tmp_path: Path) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    child = int(host.stdout.readline())
    try:
        assert there(child)
        host.send_signal(number)
        host.communicate(timeout=30)
        assert host.returncode == (128 + number if number == signal.SIGTERM else -number)
        until(lambda: not there(child), "the child ends", 10)
    finally:
        host.kill()
        if there(child):
            os.kill(child, signal.SIGKILL)


def test_a_host_s_own_way_to_end_is_left_to_it() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Children():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with Children():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_child_that_fails_is_told_with_the_end_of_what_it_wrote(tmp_path: Path) -> None:
    with Children() as children:
        command = [sys.executable, "-c", "import sys; sys.exit('no river')"]
        children.run("ferryman", command, tmp_path / "log", {}).wait(30)
        with pytest.raises(ChildFailed, match=r"(?s)ferryman ended with status 1.*no river"):
            children.check()
