"""Command groups and examples of the help texts."""

from typing import Final

__all__ = ["LOOK", "MEASURE", "PROVE", "RUN", "commands_in", "examples"]

RUN: Final = "Run"
LOOK: Final = "Look"
PROVE: Final = "Prove"
MEASURE: Final = "Measure"


def examples(*commands: str) -> str:
    """Return an epilog with one example on each line."""
    return "\n".join(["Examples:", *(f"$ {command}" for command in commands)])


def commands_in(epilog: str) -> list[str]:
    """Return the commands of an epilog that `examples` made."""
    return [line.removeprefix("$ ") for line in epilog.splitlines() if line.startswith("$ ")]
