"""The flags of ``lethe run``: one for each setting, typed and explained as the setting is.

They are made for Typer, because pydantic-settings' own command line shows all settings at once (234 lines),
cannot hide any, and names them ``--stream.topic`` with types such as ``{int,null}``.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from lethe.cli.fields import default_of, first_sentence, meaning_of
from lethe.errors import InvalidSetting
from lethe.files.bounded_json import read_json
from lethe.settings import Settings, variable

__all__ = ["flag", "name_flags", "read_options_of_one", "read_pairs", "with_settings"]

FLAGS: Final = {
    "batch.readers": "--readers",
    "batch.size": "--batch-size",
    "checkpoint.every_samples": "--checkpoint-every",
    "checkpoint.folder": "--state",
    "checkpoint.fresh": "--fresh",
    "drift.oracle": "--oracle-boundaries",
    "drift.threshold": "--drift-threshold",
    "evaluation.every": "--evaluate-every",
    "evaluation.min_segment": "--min-segment",
    "evaluation.probes": "--probes",
    "labels.max_classes": "--max-classes",
    "labels.names": "--classes",
    "labels.topic": "--labels-topic",
    "labels.unlabelled": "--unlabelled",
    "labels.wait": "--label-wait",
    "learner.device": "--device",
    "learner.name": "--learner",
    "learner.options": "--option",
    "learner.seed": "--seed",
    "learner.threads": "--threads",
    "privacy.policy": "--policy",
    "privacy.witness": "--witness",
    "run.average_every": "--average-every",
    "run.cluster_trusted": "--cluster-trusted",
    "run.ranks": "--ranks",
    "run.report": "--report",
    "sample.features": "--features",
    "sample.fit": "--fit",
    "sample.formats": "--formats",
    "serve.host": "--host",
    "serve.hosts": "--allowed-hosts",
    "serve.keep": "--keep-serving",
    "serve.port": "--port",
    "stream.accept_loss": "--accept-loss",
    "stream.bootstrap_servers": "--bootstrap-servers",
    "stream.dead_letter_topic": "--dead-letter-topic",
    "stream.group": "--group",
    "stream.isolation": "--isolation",
    "stream.predictions_topic": "--predictions-topic",
    "stream.shared_with": "--shared-with",
    "stream.stop_after": "--stop-after",
    "stream.topic": "--topic",
}
"""Short flags; any other setting's is ``--SECTION-NAME``."""

SHOWN: Final = frozenset(
    {
        "stream.bootstrap_servers",
        "stream.topic",
        "stream.group",
        "stream.security",
        "stream.stop_after",
        "sample.channels",
        "sample.height",
        "sample.width",
        "sample.features",
        "sample.classes",
        "labels.names",
        "labels.max_classes",
        "sample.formats",
        "learner.name",
        "learner.options",
        "evaluation.probes",
        "checkpoint.folder",
        "privacy.policy",
        "serve.host",
        "serve.port",
        "run.ranks",
        "run.report",
    }
)
"""The settings that most runs need; ``lethe run --help`` hides all others."""

PAIRS: Final = {"learner.options": "NAME=VALUE"}
"""Settings that are given pair by pair."""


def flag(section: str, name: str) -> str:
    """Return the flag of a setting."""
    return FLAGS.get(f"{section}.{name}", f"--{section}-{name}".replace("_", "-"))


def name_flags(message: str) -> str:
    """Return an error's message, followed by the flag and the variable of each setting that it names.

    >>> name_flags("batch.size: Input should be greater than or equal to 1")
    'batch.size: Input should be greater than or equal to 1 (batch.size: --batch-size or LETHE_BATCH__SIZE)'
    """
    named = []
    for section, name in Settings.fields():
        setting = f"{section}.{name}"
        if re.search(rf"(?<![\w./-]){re.escape(setting)}(?!\w)", message):
            named.append(f"{setting}: {flag(section, name)} or {variable(section, name)}")
    return f"{message} ({'; '.join(named)})" if named else message


def with_settings(command: Callable[[Settings], None]) -> Callable[..., None]:
    """Return ``command`` as a Typer command with a flag for every setting.

    The command is passed the settings in force. An InvalidSetting, for a bad setting or from ``command``, is
    raised with the flags and variables of the settings that it names.
    """
    fields = Settings.fields()

    def run(**given: Any) -> None:
        try:
            command(Settings.read(_values(given)))
        except InvalidSetting as error:
            raise InvalidSetting(name_flags(str(error))) from error

    parameters = [
        inspect.Parameter(
            f"{section}_{name}",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[_type(f"{section}.{name}", field), _option(section, name, field)],
        )
        for (section, name), field in fields.items()
    ]
    # Typer reads the signature and the annotations of what it is given
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run


def _values(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the values of the flags that were given, by section and name."""
    values: dict[str, dict[str, Any]] = {}
    for section, name in Settings.fields():
        value = given[f"{section}_{name}"]
        if value is not None:
            setting = f"{section}.{name}"
            values.setdefault(section, {})[name] = read_pairs(setting, value) if setting in PAIRS else value
    return values


def _option(section: str, name: str, field: FieldInfo) -> Any:
    setting = f"{section}.{name}"
    default = default_of(field)
    about = first_sentence(meaning_of(field))
    return typer.Option(
        flag(section, name),
        metavar=PAIRS.get(setting),
        help=f"{about} Default: {default}." if default else about,
        show_default=False,
        hidden=setting not in SHOWN,
        rich_help_panel=section.capitalize(),
    )


def read_pairs(setting: str, pairs: list[str]) -> dict[str, Any]:
    """Return names and values; a value is JSON if it can be read as such, and text otherwise.

    Raises InvalidSetting, naming ``setting``, for what is not NAME=VALUE.
    """
    read = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise InvalidSetting(f"{setting}: {pair!r} is not NAME=VALUE")
        try:
            read[name] = read_json(text)
        except ValueError:
            read[name] = text
    return read


def read_options_of_one(learners: list[str], pairs: list[str] | None) -> dict[str, Any]:
    """Return the options that ``pairs`` give to the only learner; raises InvalidSetting for several."""
    if pairs and len(learners) > 1:
        raise InvalidSetting("--option applies to one learner: name it with --learner")
    return read_pairs("learner.options", pairs or [])


def _type(setting: str, field: FieldInfo) -> Any:
    """Return the type that Typer parses: the setting's own, or text if pydantic parses it."""
    if setting in PAIRS:
        return list[str] | None
    annotation: Any = field.annotation
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    if get_origin(annotation) is not None and not isinstance(kinds[0], type):
        return annotation | None  # a Literal
    kind = kinds[0] if len(kinds) == 1 else str
    return kind | None
