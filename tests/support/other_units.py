"""Runs a program as on a CPU with other vector units."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

__all__ = ["AVX2", "OTHER_UNITS", "printed_with"]

AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""The variables of a CPU whose fastest exact unit is float32."""
OTHER_UNITS = pytest.mark.parametrize(
    "environment",
    [AVX2, {"ATEN_CPU_CAPABILITY": "default"}],
    ids=["avx2", "no vector unit"],
)
"""Runs a test once for each set of variables that limit the units."""


def printed_with(environment: Mapping[str, str], program: str) -> str:
    """Run Python code in another process with these variables; return what it prints."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.strip()
