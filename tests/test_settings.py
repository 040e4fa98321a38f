"""A setting is a flag, a variable or its default, in this order; anything else is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from service.errors import InvalidSetting
from service.flags import with_settings
from service.settings import OUTSIDE, Settings, variable
from service.stream.settings import StreamSettings, client_options
from service.wire import Layout


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


def refusal(*arguments: str) -> str:
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


def test_an_option_s_flag_leaves_the_other_options_of_the_variable_in_force(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LETHE_LEARNER__OPTIONS", '{"lr": 0.5, "backbone": "mlp"}')
    assert read("--option", "lr=0.1").learner.options == {"lr": 0.1, "backbone": "mlp"}


@pytest.mark.parametrize("given", ["lr", "=0.1"])
def test_an_option_that_is_no_name_and_value_is_refused(given: str) -> None:
    assert refusal("--option", given) == f"learner.options: {given!r} is not NAME=VALUE"


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
        (["--stream-security", '{"a": "b"}'], "stream", "security", {"a": "b"}),
    ],
)
def test_a_flag_is_of_its_setting_s_type(arguments: list[str], section: str, name: str, value: Any) -> None:
    assert getattr(getattr(read(*arguments), section), name) == value


def test_an_unknown_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_STREAM__TOPIK", "styx")
    monkeypatch.setenv("LETHE_BATCHSIZE", "3")
    assert refusal() == ("LETHE_BATCHSIZE, LETHE_STREAM__TOPIK: no such setting, lethe run --help lists them")


@pytest.mark.parametrize("name", OUTSIDE)
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
    assert "batch.sise" in refusal()


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
def test_a_bad_value_is_refused_by_its_setting_s_name(
    name: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert named in refusal()


def test_every_bad_value_is_named_at_once() -> None:
    said = refusal("--batch-size", "0", "--port", "70000")
    assert "batch.size" in said
    assert "serve.port" in said


def test_a_refusal_does_not_repeat_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETHE_STREAM__SECURITY", '{"sasl_plain_password": 12345678}')
    assert "12345678" not in refusal()


def flags() -> dict[tuple[str, str], list[str]]:
    """Every setting's flags, as the command line has them."""
    app = typer.Typer()
    app.command()(with_settings(lambda settings: None))
    command = typer.main.get_command(app)
    by_name = {parameter.name: parameter for parameter in command.params}
    return {(section, name): list(by_name[f"{section}_{name}"].opts) for section, name in Settings.leaves()}


def test_every_setting_has_a_flag_of_its_own() -> None:
    named = [flag for options in flags().values() for flag in options]
    assert len(named) == len(set(named)) == len(Settings.leaves())
    assert all(flag.startswith("--") and flag == flag.lower() and "_" not in flag for flag in named)


def test_every_setting_says_what_it_is() -> None:
    for (section, name), leaf in Settings.leaves().items():
        assert leaf.description, f"{section}.{name} has no docstring"
        assert leaf.description.strip()[0].isupper() or leaf.description.strip()[0] in "/o", (
            f"{section}.{name}"
        )


def test_help_shows_every_flag_with_its_variable_and_default() -> None:
    app = typer.Typer()
    app.command()(with_settings(lambda settings: None))
    shown = CliRunner().invoke(app, ["--help"], env={"TERMINAL_WIDTH": "400", "NO_COLOR": "1"}).output
    for (section, name), (flag,) in flags().items():
        assert flag in shown
        assert variable(section, name) in shown
    assert "LETHE_BATCH__SIZE=64" in shown


def test_every_section_s_values_can_be_written_and_read_as_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for (section, name), leaf in Settings.leaves().items():
        default = leaf.get_default(call_default_factory=True)
        if default is not None:
            text = json.dumps(default) if isinstance(default, dict) else str(default)
            monkeypatch.setenv(variable(section, name), text)
    assert read() == Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().stream.topic = "styx"


def test_a_section_s_constraints_hold_wherever_it_is_made() -> None:
    with pytest.raises(ValueError, match="channels"):
        Layout(channels=0)


def test_a_secret_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("obol\n")
    stream = StreamSettings(
        security={"sasl_plain_password": f"@{tmp_path / 'password'}", "security_protocol": "SASL_SSL"}
    )
    options = client_options(stream)
    assert (options["sasl_plain_password"], options["security_protocol"]) == ("obol", "SASL_SSL")
    assert "obol" not in repr(stream)


def test_a_secret_s_missing_file_is_named() -> None:
    stream = StreamSettings(security={"sasl_plain_password": "@/nowhere/password"})
    with pytest.raises(InvalidSetting, match=r"stream\.security sasl_plain_password: /nowhere/password"):
        client_options(stream)


@pytest.mark.parametrize(
    ("name", "named"), [("LETHE_STREAM__SECURITY", "stream.security"), ("LETHE_BATCH", "batch")]
)
def test_a_variable_that_is_not_the_json_it_should_be_is_refused_by_name(
    name: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "{torn")
    assert named in refusal().lower()
