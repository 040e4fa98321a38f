"""Runs the command lethe in this process."""

import sys
from dataclasses import dataclass

import pytest

from lethe.cli.main import main
from lethe.ingest.reader_process import SPAWN

__all__ = ["Done", "Lethe"]


@dataclass(frozen=True)
class Done:
    """Exit status and output of a command."""

    code: int
    stdout: str
    stderr: str


class Lethe:
    """Runs the command in this process: importing torch for each test would take a minute."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch
        for name, value in {"NO_COLOR": "1", "COLUMNS": "250"}.items():
            monkeypatch.setenv(name, value)
        # this process has a fork server already, which blocks no signals: `tests.support.forked`
        monkeypatch.setattr("lethe.cli.run.start_fork_server", lambda: SPAWN)

    def __call__(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["lethe", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, *self._capsys.readouterr())

    def refuses(self, *arguments: str) -> str:
        """Run a command that must fail, and return its single line on stderr."""
        done = self(*arguments)
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr.startswith("lethe: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.strip()
