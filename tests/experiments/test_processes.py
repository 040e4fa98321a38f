"""Child processes: they end with their parent, however that ends."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lethe.experiments.processes import PORTS, ChildFailed, Children, environment, free_port
from lethe.runtime.factories import with_learners_defaults
from lethe.settings import Settings
from tests.support.waiting import until

HOST = """
import sys, time
from pathlib import Path
from lethe.experiments.processes import Children
with Children() as children:
    child = children.run("sleeper", ["sleep", "600"], Path(sys.argv[1]) / "log", {})
    print(child.pid, flush=True)
    time.sleep(600)
"""


def there(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
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
        until(lambda: not there(child), "the child ends")
    finally:
        host.kill()
        if there(child):
            os.kill(child, signal.SIGKILL)


def test_what_was_given_reaches_a_child_also_if_it_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings.read(
        {
            "learner": {"name": "ridge", "seed": 3, "options": {"waves": 0}},
            "batch": {"size": 64},
            "evaluation": {"probes": None},
        }
    )
    variables = environment(given)
    assert variables == {
        "LETHE_LEARNER__NAME": "ridge",
        "LETHE_LEARNER__SEED": "3",
        "LETHE_LEARNER__OPTIONS": '{"waves": 0}',
        "LETHE_BATCH__SIZE": "64",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = with_learners_defaults(Settings.read({}))
    assert found.batch.size == 64, "and not ridge's own 512"


def test_signal_handlers_of_the_host_process_are_kept() -> None:
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


def test_a_child_that_fails_is_reported_with_the_end_of_its_output(tmp_path: Path) -> None:
    with Children() as children:
        command = [sys.executable, "-c", "import sys; sys.exit('no river')"]
        children.run("ferryman", command, tmp_path / "log", {}).wait(30)
        with pytest.raises(ChildFailed, match=r"(?s)ferryman ended with status 1.*no river"):
            children.check()


def test_a_free_port_is_returned_once_and_no_outgoing_connection_can_get_it() -> None:
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(500)]
    assert len(set(ports)) == 500
    assert max(ports) < first_ephemeral


def test_a_port_that_is_bound_is_not_free() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        assert other.getsockname()[1] not in [free_port() for _ in PORTS[:-1]]
