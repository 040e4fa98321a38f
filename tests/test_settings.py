"""Settings: flags override variables, variables override defaults, and errors name the setting."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from lethe.cli.flags import with_settings
from lethe.errors import InvalidSetting
from lethe.settings import OTHER_VARIABLES, Settings, variable
from lethe.stream.connection import Cluster
from lethe.stream.settings import StreamSettings
from lethe.wire import Layout


def read(*arguments: str) -> Settings:
    """Return the settings in force for a command line, in the environment as it is."""
    seen: list[Settings] = []
    app = typer.Typer()

    def command(settings: Settings) -> None:
        """Take settings."""
        seen.append(settings)

    app.command()(with_settings(command))
    app(list(arguments), standalone_mode=False)
    return seen[0]


def error(*arguments: str) -> str:
    with pytest.raises(InvalidSetting) as caught:
        read(*arguments)
    return str(caught.value)


def test_a_flag_goes_before_a_variable_and_a_variable_before_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read().stream.topic == "images"
    monkeypatch.setenv("LETHE_STREAM__TOPIC", "from-variable")
    assert read().stream.topic == "from-variable"
    assert read("--topic", "from-flag").stream.topic == "from-flag"


def test_a_flag_leaves_the_variables_of_its_section_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_STREAM__GROUP", "shades")
    monkeypatch.setenv("LETHE_SERVE__PORT", "9")
    settings = read("--topic", "styx")
    assert (settings.stream.topic, settings.stream.group, settings.serve.port) == ("styx", "shades", 9)


def test_an_options_flag_leaves_the_other_options_of_the_variable_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LETHE_LEARNER__OPTIONS", '{"lr": 0.5, "backbone": "mlp"}')
    assert read("--option", "lr=0.1").learner.options == {"lr": 0.1, "backbone": "mlp"}


@pytest.mark.parametrize("given", ["lr", "=0.1"])
def test_an_option_that_is_no_name_and_value_is_refused(given: str) -> None:
    assert error("--option", given).startswith(f"learner.options: {given!r} is not NAME=VALUE (")


def test_a_whole_section_can_be_given_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_BATCH", '{"size": 3}')
    assert read().batch.size == 3


@pytest.mark.parametrize(
    ("arguments", "section", "name", "value"),
    [
        (["--stop-after", "7"], "stream", "stop_after", 7),
        (["--device", "cpu"], "learner", "device", "cpu"),
        (["--keep-serving"], "serve", "keep", True),
        (["--probes", "a/b"], "evaluation", "probes", Path("a/b")),
        (["--batch-linger", "0.5"], "batch", "linger", 0.5),
        (["--sample-max-bytes", "10"], "sample", "max_bytes", 10),
        (
            ["--option", "lr=0.1", "--option", "backbone=mlp"],
            "learner",
            "options",
            {"lr": 0.1, "backbone": "mlp"},
        ),
        (["--option", 'more={"a": [1]}'], "learner", "options", {"more": {"a": [1]}}),
        (["--option", "url=a=b"], "learner", "options", {"url": "a=b"}),
        (
            ["--stream-security", '{"sasl_plain_username": "b"}'],
            "stream",
            "security",
            {"sasl_plain_username": "b"},
        ),
    ],
)
def test_a_flag_is_of_its_settings_type(arguments: list[str], section: str, name: str, value: Any) -> None:
    assert getattr(getattr(read(*arguments), section), name) == value


def test_an_unknown_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_STREAM__TOPIK", "styx")
    monkeypatch.setenv("LETHE_BATCHSIZE", "3")
    assert error() == "LETHE_BATCHSIZE, LETHE_STREAM__TOPIK: no such setting; lethe settings lists them"


@pytest.mark.parametrize("name", OTHER_VARIABLES)
def test_a_variable_of_another_program_of_the_project_is_none_of_the_settings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "anything")
    assert read() == Settings()


def test_an_unknown_key_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSetting, match=r"stream\.topik"):
        Settings.read({"stream": {"topik": "styx"}})
    with pytest.raises(InvalidSetting, match="charon"):
        Settings.read({"charon": {"topik": "styx"}})
    monkeypatch.setenv("LETHE_BATCH", '{"sise": 3}')
    assert "batch.sise" in error()


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("LETHE_BATCH__SIZE", "0", "batch.size"),
        ("LETHE_BATCH__SIZE", "many", "batch.size"),
        ("LETHE_STREAM__TOPIC", "not a topic", "stream.topic"),
        ("LETHE_STREAM__START", "yesterday", "stream.start"),
        ("LETHE_STREAM__API_VERSION", "new", "stream.api_version"),
        ("LETHE_STREAM__SECURITY", '{"ssl": {"nested": 1}}', "stream.security"),
        ("LETHE_SERVE__PORT", "65536", "serve.port"),
        ("LETHE_LEARNER__DEVICE", "abacus", "learner.device"),
        ("LETHE_SAMPLE__CHANNELS", "5", "sample.channels"),
        ("LETHE_STREAM__RANK", "1", "stream.rank"),
    ],
)
def test_a_bad_value_is_refused_by_its_settings_name(
    name: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert named in error()


CONFLICTS = [
    (["--topic", "styx", "--dead-letter-topic", "styx"], ("stream.topic", "stream.dead_letter_topic")),
    (["--topic", "s" * 240], ("stream.topic", "stream.dead_letter_topic")),
    (["--group", "shades", "--shared-with", "a, shades"], ("stream.group", "stream.shared_with")),
    (["--stream-rank", "2", "--stream-world", "2"], ("stream.rank", "stream.world")),
    (["--bootstrap-servers", "k:1,127.0.0.1:9", "--port", "9"], ("stream.bootstrap_servers", "serve.port")),
    (
        ["--bootstrap-servers", "localhost:9", "--host", "0.0.0.0", "--port", "9"],
        ("serve.host", "serve.port"),
    ),
    (["--bootstrap-servers", "[::1]:9", "--host", "::1", "--port", "9"], ("serve.host", "serve.port")),
    (["--state", "a/s", "--probes", "a/s"], ("checkpoint.folder", "evaluation.probes")),
    (["--state", "a/s", "--probes", "a/s/probes"], ("checkpoint.folder", "evaluation.probes")),
    (["--state", "a/s", "--report", "a/b/../s"], ("checkpoint.folder", "run.report")),
    (["--state", "a/s", "--policy", "a/s/mine.yaml"], ("checkpoint.folder", "privacy.policy")),
    (["--state", "a/s", "--serve-token-file", "a/s/token"], ("checkpoint.folder", "serve.token_file")),
    (["--report", "a", "--serve-token-file", "a/b/token"], ("run.report", "serve.token_file")),
]
"""Flags that are valid one by one, and the settings that conflict."""


@pytest.mark.parametrize(("arguments", "named"), CONFLICTS, ids=[" ".join(c[1]) for c in CONFLICTS])
def test_settings_that_do_not_go_together_are_refused_by_their_names(
    arguments: list[str], named: tuple[str, str]
) -> None:
    said = error(*arguments)
    assert all(name in said for name in named), said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--topic", "styx", "--dead-letter-topic", "styx.dead"],
        ["--topic", "s" * 240, "--dead-letter-topic", "styx"],
        ["--group", "shades", "--shared-with", "shades-2"],
        ["--bootstrap-servers", "kafka:9108", "--host", "0.0.0.0"],
        ["--bootstrap-servers", "127.0.0.1:9092", "--port", "0"],
        ["--report", "a", "--state", "a/state", "--probes", "a/probes", "--policy", "a/mine.yaml"],
        ["--state", "a/s", "--report", "a/s2"],
        ["--state", "clinic", "--policy", "clinic"],
    ],
    ids=" ".join,
)
def test_settings_that_go_together_are_taken(arguments: list[str]) -> None:
    assert read(*arguments) != Settings()


def test_every_bad_value_is_named_at_once() -> None:
    said = error("--batch-size", "0", "--port", "70000")
    assert "batch.size" in said
    assert "serve.port" in said


def test_a_refusal_does_not_repeat_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_STREAM__SECURITY", '{"sasl_plain_password": 12345678}')
    assert "12345678" not in error()


def flags() -> dict[tuple[str, str], list[str]]:
    """Every setting's flags, as the command line has them."""
    app = typer.Typer()
    app.command()(with_settings(lambda settings: None))
    command = typer.main.get_command(app)
    by_name = {parameter.name: parameter for parameter in command.params}
    return {(section, name): list(by_name[f"{section}_{name}"].opts) for section, name in Settings.fields()}


def test_every_setting_has_a_flag_of_its_own() -> None:
    named = [flag for options in flags().values() for flag in options]
    assert len(named) == len(set(named)) == len(Settings.fields())
    assert all(flag.startswith("--") and flag == flag.lower() and "_" not in flag for flag in named)


def test_every_setting_says_what_it_is() -> None:
    for (section, name), leaf in Settings.fields().items():
        assert leaf.description, f"{section}.{name} has no docstring"
        assert leaf.description.strip()[0].isupper() or leaf.description.strip()[0] in "/o", (
            f"{section}.{name}"
        )


def test_every_sections_values_can_be_written_and_read_as_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for (section, name), leaf in Settings.fields().items():
        default = leaf.get_default(call_default_factory=True)
        if default is not None:
            text = json.dumps(default) if isinstance(default, dict) else str(default)
            monkeypatch.setenv(variable(section, name), text)
    assert read() == Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().stream.topic = "styx"


def test_a_sections_constraints_hold_wherever_it_is_made() -> None:
    with pytest.raises(ValueError, match="channels"):
        Layout(channels=0)


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("obol\n")
    stream = StreamSettings(
        security={"sasl_plain_password": f"@{tmp_path / 'password'}", "security_protocol": "SASL_SSL"}
    )
    options = Cluster.of(stream).options
    assert (options["sasl_plain_password"], options["security_protocol"]) == ("obol", "SASL_SSL")
    assert "obol" not in repr(stream)


def test_a_secrets_missing_file_is_named() -> None:
    stream = StreamSettings(security={"sasl_plain_password": "@/nowhere/password"})
    with pytest.raises(InvalidSetting, match=r"security .* sasl_plain_password: /nowhere/password"):
        Cluster.of(stream)


@pytest.mark.parametrize(
    ("name", "named"), [("LETHE_STREAM__SECURITY", "stream.security"), ("LETHE_BATCH", "batch")]
)
def test_a_variable_that_is_not_the_json_it_should_be_is_refused_by_name(
    name: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "{torn")
    assert named in error().lower()


def test_several_readers_are_for_images_that_need_decoding() -> None:
    assert read("--readers", "3", "--formats", "jpeg,raw").batch.readers == 3
    assert "raw values, which need no decoding" in error("--readers", "2", "--formats", "raw")
    assert "raw values, which need no decoding" in error("--readers", "2", "--features", "8")
    assert "batch.readers" in error("--readers", "0")
    assert "batch.readers" in error("--readers", "65")
