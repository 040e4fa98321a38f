"""The command lethe in this process, as a user types it."""

import sys
from dataclasses import dataclass

import pytest

from service.cli import main

__all__ = ["Done", "Lethe"]


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    code: int
    stdout: str
    stderr: str


class Lethe:
    """Runs the command in this process: importing torch for each test would take a minute."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch
        for name, value in {"NO_COLOR": "1", "COLUMNS": "250", "TERMINAL_WIDTH": "250"}.items():
            monkeypatch.setenv(name, value)

    def __call__(self, *arguments: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["lethe", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, *self._capsys.readouterr())

    def refuses(self, *arguments: str) -> str:
        """Return the one line on stderr of a command that must fail."""
        done = self(*arguments)
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr.startswith("lethe: ")
        assert done.stderr.count("\n") == 1
        return done.stderr.strip()
