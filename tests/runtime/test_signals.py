"""SIGTERM ends a wait, at whichever instant it arrives."""

import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lethe.runtime.signals import stop_signals

DESCRIPTORS = Path("/proc/self/fd")
WAITING = textwrap.dedent(
    """
    import sys
    from lethe.runtime.signals import stop_signals

    for _ in range(int(sys.argv[1])):
        with stop_signals() as stop:
            print("up", flush=True)
            while not stop.wait(0):
                pass
    """
)
"""As a service that has learned everything and keeps serving, without a pause between two looks."""


def terminate(times: int, seed: int) -> int:
    """Let a process wait repeatedly for SIGTERM, sent at a random instant each time; return its status."""
    instants = random.Random(seed)
    command = [sys.executable, "-c", WAITING, str(times)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for _ in range(times):
                assert process.stdout.readline() == b"up\n"
                time.sleep(instants.uniform(0, 0.003))
                process.send_signal(signal.SIGTERM)
            return process.wait(60)
        finally:
            process.kill()


@pytest.mark.timeout(200)  # a deadlock would never end
def test_every_sigterm_ends_a_wait() -> None:
    assert [terminate(10, seed) for seed in range(40)] == [0] * 40


@pytest.mark.long
@pytest.mark.timeout(900)
def test_sigterm_at_a_thousand_random_instants_ends_a_process_each_time() -> None:
    assert [seed for seed in range(1000) if terminate(1, seed)] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_wait_at_once_and_stays_in_force(number: signal.Signals) -> None:
    with stop_signals() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        began = time.monotonic()
        assert stop.wait(60)
        assert stop.wait(60)
        assert stop.is_set()
    assert time.monotonic() - began < 50


def test_another_signal_does_not_end_a_wait() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with stop_signals() as stop:
            signal.raise_signal(signal.SIGUSR1)
            assert not stop.wait(0)
            began = time.monotonic()
            assert not stop.wait(0.1)
            assert time.monotonic() - began > 0.05
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_afterwards_handlers_and_descriptors_are_restored() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    descriptors = len(list(DESCRIPTORS.iterdir()))
    with stop_signals():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert len(list(DESCRIPTORS.iterdir())) == descriptors
    assert signal.set_wakeup_fd(-1) == -1
