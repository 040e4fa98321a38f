"""Runs ``lethe demo`` as a user does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["run", "start"]


def start(report: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lethe", "demo", "--report", str(report), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def run(report: Path, *arguments: str) -> dict[str, Any]:
    """Run a short demo of one learner and return its document."""
    learner = () if "--learner" in arguments else ("--learner", "finetune")
    short = ["--samples", "600", *learner, "--json", *arguments]
    process = start(report, *short)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    document: dict[str, Any] = json.loads(stdout)
    return document
