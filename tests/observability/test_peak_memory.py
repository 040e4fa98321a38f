"""Peak memory of this process and of others."""

import subprocess
import sys

from lethe.observability.peak_memory import peak_rss_bytes, peak_rss_bytes_of


def test_the_peak_is_in_bytes() -> None:
    assert 1 << 26 < peak_rss_bytes() < 1 << 36, "torch alone takes more than 64 MiB"


def test_of_other_processes_the_peaks_are_added_and_those_that_have_ended_left_out() -> None:
    taken = "x = bytearray(1 << 26); del x; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", taken], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        peak = peak_rss_bytes_of([process.pid])
        assert 1 << 26 < peak < 1 << 30, "it has freed them again"
        assert peak_rss_bytes_of([process.pid, process.pid]) == 2 * peak
        process.kill()
        process.wait()
        assert peak_rss_bytes_of([process.pid]) == 0
    assert peak_rss_bytes_of([]) == 0
