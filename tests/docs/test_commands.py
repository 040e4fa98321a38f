"""Every command in README.md and on the site is run, or listed with the reason why not and checked."""

import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import typer
import yaml
from _pytest.mark import ParameterSet
from PIL import Image

from deploy.kafka.kraft import KafkaNode, free_port
from docs.generate import ROOT, pages
from lethe.cli.main import app as lethe_app
from lethe.privacy.policy import load_policy
from lethe_producers.__main__ import app as replay_app
from tests.support.brokers import of_kafka
from tests.support.documents import DOCUMENTS, blocks, commands_in, inline_commands, prose
from tests.support.waiting import until

TREATMENT = yaml.safe_load((Path(__file__).parent / "commands.yaml").read_text())
PROGRAMS = {"lethe": lethe_app, "lethe-replay": replay_app}
WITH_COMMANDS = [document for document in DOCUMENTS if commands_in(document)]
LONG = {
    "alerts.md",
    "anatomy.md",
    "choose-learner.md",
    "crash-safety.md",
    "data.md",
    "kafka.md",
    "labels.md",
    "photographs.md",
    "predictions.md",
    "privacy.md",
    "predict.md",
    "python.md",
    "quickstart.md",
    "tables.md",
    "watch.md",
    "write-learner.md",
}
"""Documents whose commands take long and start what those of other documents start, too."""
ANYTHING_ELSE = (
    "curl",
    "kcat",
    "promtool",
    "kubectl",
    "docker",
    "export",
    "printf",
    "unshare",
    ".venv-peers/bin/python",
    "torchrun",
)


def treatment(kind: str, command: str) -> Any:
    """Return what the longest key of this kind that ``command`` begins with says, or None."""
    fitting = [key for key in TREATMENT[kind] if command.startswith(key)]
    return TREATMENT[kind][max(fitting, key=len)] if fitting else None


class Stage:
    """A folder in which the commands of a document run one after the other, with a running broker."""

    def __init__(self, folder: Path, kafka: KafkaNode) -> None:
        self._folder, self._kafka = folder, kafka
        self._services: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._exports: list[str] = []
        self._topics: set[str] = set()
        self._port, self._name = 0, uuid.uuid4().hex[:8]
        for name in ("deploy", "tests", "service", "docs"):
            (folder / name).symlink_to(ROOT / name)
        for name, label in (("three", 3), ("four", 4)):
            pixels = np.random.default_rng(label).integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{name}.png")
            (folder / f"{name}.raw").write_bytes(pixels.tobytes())
        (folder / "token").write_text("-" * 16)

    def run(self, command: str) -> None:
        """Run a command to its end; a service that does not end by itself is left running."""
        if command.startswith("export "):
            self._exports.append(command)
            return
        line = f"{command} {treatment('with', command) or ''}"
        service = command.startswith("lethe run") and "--stop-after" not in line
        stack = command.startswith("python deploy/stack.py")
        if command.startswith("lethe run"):
            self._port = free_port()
        for text, value in (
            ("HOST:PORT", self._kafka.bootstrap_servers),
            ("127.0.0.1:9108", f"127.0.0.1:{self._port}"),
            ("--port 9109", ""),
        ):
            line = line.replace(text, value)
        line = re.sub(
            r"(--topic |--predictions-topic |--labels-topic |-t |topic:)(\w+)",
            rf"\g<1>\g<2>-{self._name}",
            line,
        )
        if "kcat -P" in command:
            self._ensure_topic(line.split(" -t ")[1].split()[0])
        if service or stack:
            self._serve(line)
            until(self._answers if service else self._streams, "the service answers")
            return
        if command.startswith("lethe checkpoint ") and self._services:
            until(lambda: any(self._folder.glob("state/*.safetensors")), "the service writes a checkpoint")
        if command.startswith("lethe export ") and self._services:
            state = self._folder / command.split()[2]
            until(lambda: len([*state.glob("*.safetensors")]) > 1, "a checkpoint follows the empty one")
        done = subprocess.run(
            ["bash", "-c", "\n".join([*self._exports, line])],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
        expected = treatment("status", command) or 0
        assert done.returncode == expected, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"

    def _ensure_topic(self, name: str) -> None:
        if name not in self._topics:  # kcat creates none, unless the broker does
            of_kafka(self._kafka).create_topic(name, 1)
            self._topics.add(name)

    def _serve(self, line: str) -> None:
        log = self._folder / f"service-{len(self._services)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                shlex.split(line), cwd=self._folder, env=self._environment(), stdout=output, stderr=output
            )
        self._services.append((process, log))

    def _answers(self) -> bool:
        process, log = self._services[-1]
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/livez").is_success
        except httpx.TransportError:
            return False

    def _streams(self) -> bool:
        """Whether a whole stack runs; its first service is the one that answers from then on."""
        process, log = self._services[-1]
        assert process.poll() is None, log.read_text()
        if found := re.search(r"^finetune +http://127.0.0.1:(\d+)\n", log.read_text(), re.MULTILINE):
            self._port = int(found[1])
        return "streaming;" in log.read_text()

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LETHE_LEARNER__DEVICE": "cpu",
            "LETHE_SERVE__PORT": str(self._port),
            "LETHE_STREAM__GROUP": self._name,
        }

    def stop(self) -> None:
        """Stop every service as Ctrl-C does, and require that each ends well."""
        for process, log in self._services:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0, log.read_text()

    def kill(self) -> None:
        """End every service that is left after a failure."""
        for process, _ in self._services:
            process.terminate()  # a stack ends what it has started
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def stage(tmp_path: Path, kafka_node: KafkaNode) -> Iterator[Stage]:
    stage = Stage(tmp_path, kafka_node)
    yield stage
    stage.kill()


def to_run(document: Path) -> list[str]:
    """Return the commands of a document that are not listed as not run."""
    return [command for command in commands_in(document) if treatment("not_run", command) is None]


def parameter(document: Path) -> ParameterSet:
    """Return the document as a parameter; policies count seconds, so those that name one run alone."""
    counts_seconds = any("--policy" in command for command in to_run(document))
    marks = [pytest.mark.alone] if counts_seconds else []
    marks += [pytest.mark.long] if document.name in LONG else []
    return pytest.param(document, marks=marks, id=str(document.relative_to(ROOT)))


TO_RUN = [
    parameter(document)
    for document in DOCUMENTS
    if to_run(document) or any(block.language == "python" for block in blocks(document))
]


@pytest.mark.needs("kafka", "datasets", "kcat", "prometheus")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", TO_RUN)
def test_the_commands_of_a_document_run(document: Path, stage: Stage, tmp_path: Path) -> None:
    for command in TREATMENT["before"].get(document.name, ()):
        stage.run(command)
    for block in blocks(document):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
    for block in blocks(document):
        if block.language == "python" and f"python {block.file}" not in to_run(document):
            file = block.file or "test_block.py"
            (tmp_path / file).write_text(block.text)
            stage.run(f"python -m pytest -q {file}" if "import pytest" in block.text else f"python {file}")
        for command in block.commands:
            if treatment("not_run", command) is None:
                stage.run(command)
    stage.stop()


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_flags_targets_and_modules_of_every_command_exist(document: Path) -> None:
    for command in (*commands_in(document), *inline_commands(document)):
        words = [word for word in shlex.split(command) if word != "…"]
        while "=" in words[0]:
            del words[0]
        for end in ("|", ">"):
            words = words[: words.index(end)] if end in words else words
        if words[0] in PROGRAMS:
            check_flags(words)
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        elif words[:2] == ["python", "-m"]:
            missing = {word for word in words if word.startswith("--")} - set(options_of(words[2]))
            assert not missing, f"{command}: {missing}"
        elif words[0] == "python":
            written = {block.file for block in blocks(document)}
            assert (ROOT / words[1]).exists() or words[1] in written, command
        else:
            assert words[0] in ANYTHING_ELSE, f"{command}: how is this to be checked?"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_flags_that_a_document_mentions_exist(document: Path) -> None:
    known = {"--method", *(flag for app in PROGRAMS.values() for flag in flags(typer.main.get_command(app)))}
    if document.name != "CHANGELOG.md":  # it names flags that are gone
        assert set(re.findall(r"`(--[a-z][a-z-]+)", prose(document))) <= known


def flags(command: Any) -> Iterator[str]:
    """Yield every flag of a command and of those under it."""
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)
    for child in getattr(command, "commands", {}).values():
        yield from flags(child)


def check_flags(words: list[str]) -> None:
    """Fail if a program has no such command, or the command no such flag."""
    command: Any = typer.main.get_command(PROGRAMS[words[0]])
    rest = words[1:]
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, " ".join(words)
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_parser(typer.Context(command)).parse_args(rest)  # raises NoSuchOption


@cache
def examples() -> list[str]:
    """Return the commands in the ``sh`` blocks of the generated reference: those of the help texts."""
    found = re.findall(r"^```sh\n(.*?)^```$", dict(pages())["reference/cli.md"], re.DOTALL | re.MULTILINE)
    return [line for block in found for line in block.splitlines()]


@cache
def run_in_a_block() -> frozenset[str]:
    """Return every command that is run in a block of some document."""
    return frozenset(command for document in WITH_COMMANDS for command in to_run(document))


def without_block() -> list[str]:
    """Return the inline commands and examples that no block runs and ``not_run`` does not list."""
    mentioned = [command for document in DOCUMENTS for command in inline_commands(document)]
    return [
        command
        for command in (*mentioned, *examples())
        if command not in run_in_a_block() and treatment("not_run", command) is None
    ]


def test_the_examples_in_help_texts_have_flags_that_exist() -> None:
    assert examples()
    for example in examples():
        check_flags(shlex.split(example))


def test_a_command_that_no_block_runs_is_listed_with_the_reason() -> None:
    missing = [command for command in without_block() if treatment("checked_only", command) is None]
    assert missing == [], "run them in a block, or list them in checked_only"


def test_every_reason_for_checking_only_fits_a_command() -> None:
    longest = {
        max((key for key in TREATMENT["checked_only"] if command.startswith(key)), key=len, default="")
        for command in without_block()
    }
    assert sorted(set(TREATMENT["checked_only"]) - longest) == []


@cache
def options_of(module: str) -> list[str]:
    """Return the flags that ``python -m MODULE --help`` shows."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return re.findall(r"--[\w-]+", done.stdout)


def test_every_entry_of_the_list_fits_a_command() -> None:
    every = [command for document in WITH_COMMANDS for command in commands_in(document)]
    every += [command for commands in TREATMENT["before"].values() for command in commands]
    for kind in ("with", "status", "not_run"):
        idle = [key for key in TREATMENT[kind] if not any(command.startswith(key) for command in every)]
        assert idle == [], kind


def test_a_block_says_what_language_it_is_in() -> None:
    for document in DOCUMENTS:
        for block in blocks(document):
            known = block.language in {"sh", "python", "toml", "yaml", "text"}
            assert known, f"{document.name}:{block.line}: {block.language!r}"


def test_a_policy_on_the_site_is_one(tmp_path: Path) -> None:
    policies = [
        block.text
        for block in blocks(ROOT / "docs" / "pages" / "privacy.md")
        if block.language == "yaml" and "retention:" in block.text
    ]
    assert policies
    for number, text in enumerate(policies):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        assert load_policy(str(file)).name
