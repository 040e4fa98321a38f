"""Help texts and the list of settings: complete, as wide as the terminal, with working examples."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from lethe.cli.fields import default_of, meaning_of
from lethe.cli.flags import SHOWN, flag, name_flags
from lethe.cli.help import commands_in
from lethe.cli.main import app
from lethe.settings import Settings, variable
from lethe_producers.__main__ import app as replay
from lethe_producers.scenario import load_scenario
from tests.support.commands import Lethe

MOST_LINES = 80
"""Lines on two screens."""
EVERY_COMMAND = {
    "lethe": [
        "run",
        "watch",
        "demo",
        "settings",
        "learners",
        "checkpoint",
        "compare",
        "export",
        "audit",
        "forget",
        "verify",
        "merge",
        "subtract",
        "chaos",
        "test",
        "promote",
        "attack",
        "anatomy",
        "bench",
    ],
    "lethe-replay": ["stream", "probes", "topic", "schema", "data", "scenarios"],
}


Command = TyperCommand | TyperGroup


def commands(command: Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Command]]:
    """Yield ``command`` and all its subcommands, each with the words that call it."""
    yield path, command
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            assert isinstance(inner, TyperCommand | TyperGroup)
            yield from commands(inner, (*path, name))


APPS = {"lethe": app, "lethe-replay": replay}
COMMANDS = [one for name, root in APPS.items() for one in commands(typer.main.get_group(root), (name,))]
LEAVES = [(path, command) for path, command in COMMANDS if not isinstance(command, TyperGroup)]
EXAMPLES = [example for _, command in COMMANDS for example in commands_in(command.epilog or "")]


def shown(*words: str, width: int = 80, **variables: str) -> str:
    """The output of a command in this process, without a terminal."""
    path, _ = found(words)
    given = {"COLUMNS": str(width), "NO_COLOR": "1"} | variables
    done = CliRunner().invoke(APPS[path[0]], words[1:], env=given, prog_name=path[0])
    assert done.exit_code == 0, done.output
    return done.stdout


def found(words: Sequence[str]) -> tuple[tuple[str, ...], Command]:
    """The command that ``words`` begin with."""
    alike = [(path, command) for path, command in COMMANDS if tuple(words[: len(path)]) == path]
    return max(alike, key=lambda one: len(one[0]))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_a_help_text_fits_the_terminal_and_is_not_cut_off(
    path: tuple[str, ...], command: Command, width: int
) -> None:
    text = shown(*path, "--help", width=width)
    assert f"Usage: {' '.join(path)} " in text
    assert max(map(len, text.splitlines())) <= width
    whole = text.replace("HOST:PORT…]", "")
    assert [line for line in whole.splitlines() if "…" in line] == []


@pytest.mark.parametrize("name", APPS)
def test_help_lists_every_command(name: str) -> None:
    text = shown(name, "--help")
    listed = [line.split()[1] for line in text.splitlines() if line.startswith("│ ") and line[2].isalpha()]
    assert sorted(listed) == sorted(EVERY_COMMAND[name])


def test_help_on_run_fits_two_screens_and_points_to_the_other_settings() -> None:
    text = shown("lethe", "run", "--help")
    assert len(text.splitlines()) <= MOST_LINES
    assert "lethe settings" in text
    for section, name in Settings.fields():
        assert (f" {flag(section, name)} " in text) == (f"{section}.{name}" in SHOWN)


def test_what_help_on_run_shows_are_settings() -> None:
    assert {f"{section}.{name}" for section, name in Settings.fields()} >= SHOWN


def test_help_on_run_shows_defaults() -> None:
    text = " ".join(shown("lethe", "run", "--help", width=200).split())
    assert "Default: 127.0.0.1:9092." in text
    assert "Default: 9108." in text


@pytest.mark.parametrize("width", [80, 120])
def test_settings_lists_everything_untruncated(width: int) -> None:
    text = shown("lethe", "settings", width=width)
    assert max(map(len, text.splitlines())) <= width
    for section, name in Settings.fields():
        assert f" {flag(section, name)} " in text
        assert f" {variable(section, name)} " in text
    meanings = " ".join(line.split("│")[2].strip() for line in text.splitlines() if line.count("│") == 3)
    for field in Settings.fields().values():
        assert "".join(meaning_of(field).split()) in "".join(meanings.split())


def test_settings_as_markdown_has_a_row_for_each() -> None:
    text = shown("lethe", "settings", "--markdown")
    rows = [line for line in text.splitlines() if line.startswith("| `--")]
    assert [row.split("`")[3] for row in rows] == [variable(*setting) for setting in Settings.fields()]
    for row, field in zip(rows, Settings.fields().values(), strict=True):
        assert row.replace("\\|", "").count("|") == 6
        assert default_of(field).replace("|", "\\|") in row


def test_settings_of_a_section_that_does_not_exist_are_refused_with_those_that_do(lethe: Lethe) -> None:
    said = lethe.refuses("settings", "styx")
    assert said == f"lethe: section 'styx' does not exist: there are {', '.join(Settings.sections())}"


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[" ".join(path) for path, _ in LEAVES])
def test_every_command_has_examples(path: tuple[str, ...], command: Command) -> None:
    examples = commands_in(command.epilog or "")
    assert examples
    assert all(shlex.split(example)[: len(path)] == list(path) for example in examples)
    assert max(map(len, examples)) < 77  # on one line of 80 columns


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_command_line_that_is_understood(example: str) -> None:
    words = shlex.split(example)
    path, command = found(words)
    given = command.make_context(words[0], words[len(path) :]).params
    named = given.get("scenario") or []
    for scenario in [named] if isinstance(named, str) else named:
        load_scenario(scenario)


@pytest.mark.parametrize(
    "example",
    [e for e in EXAMPLES if e.startswith(("lethe learners", "lethe settings", "lethe-replay scen"))],
)
def test_an_example_that_needs_nothing_runs(example: str) -> None:
    assert shown(*shlex.split(example))


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("batch.size: Input should be greater than 0", "batch.size: --batch-size or LETHE_BATCH__SIZE"),
        ("learner.options.lr: no such option", "learner.options: --option or LETHE_LEARNER__OPTIONS"),
        (
            "serve.host 127.0.0.1, serve.port 1: Address already in use",
            "serve.host: --host or LETHE_SERVE__HOST; serve.port: --port or LETHE_SERVE__PORT",
        ),
    ],
)
def test_an_error_names_the_flag_and_the_variable_of_its_setting(message: str, named: str) -> None:
    assert name_flags(message) == f"{message} ({named})"


@pytest.mark.parametrize("message", ["a/batch.size.yaml is not YAML", "no such topic", "run.reporter"])
def test_an_error_that_names_no_setting_stays_as_it_is(message: str) -> None:
    assert name_flags(message) == message


@pytest.mark.parametrize(("command", "whole"), [("lethe", "settings"), ("lethe-replay", "stream")])
def test_a_shell_completes_subcommands(command: str, whole: str) -> None:
    asked = {"COMP_WORDS": f"{command} s", "COMP_CWORD": "1"}
    asked[f"_{command.replace('-', '_').upper()}_COMPLETE"] = "complete_bash"
    module = {"lethe": "lethe", "lethe-replay": "lethe_producers"}[command]
    done = subprocess.run(
        [sys.executable, "-m", module], env=os.environ | asked, capture_output=True, text=True, timeout=120
    )
    assert whole in done.stdout.split(), done.stderr


@pytest.mark.parametrize(("module", "command"), [("lethe", "lethe"), ("lethe_producers", "lethe-replay")])
def test_a_package_that_is_run_has_the_name_of_its_command(module: str, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, timeout=120, check=True
    )
    assert f"Usage: {command} " in done.stdout


def test_both_commands_are_installed() -> None:
    assert {"lethe", "lethe-replay"} <= {point.name for point in entry_points(group="console_scripts")}
