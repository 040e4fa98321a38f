"""Writes the reference pages from the code: when the site is built, never into the repository.

A committed copy would have to be renewed with every flag, metric and docstring that changes, and would
conflict in every merge. To read the pages without the site: ``python -m docs.generate FOLDER``.
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import typer
from prometheus_client import CollectorRegistry
from typer.core import TyperArgument, TyperGroup

import lethe
from docs.example_events import EVENTS
from docs.modules import MODULES, ROOT, floors, rooms
from lethe.cli.help import commands_in
from lethe.cli.main import app as lethe_app
from lethe.cli.settings import section_markdown
from lethe.evaluation.history import History
from lethe.events import SCORES
from lethe.learners.base import Learner, LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.learners.registry import LEARNERS
from lethe.observability.metrics import Metrics
from lethe.observability.run_state import RunState
from lethe.observability.watch_metrics import TargetMetrics
from lethe.privacy.status import PolicyStatus
from lethe.runtime.factories import build_labels
from lethe.settings import Settings
from lethe.web.app import create_app
from lethe.web.predict import PredictEndpoint, PredictMetrics
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.rejected_requests import RejectedRequests
from lethe.wire import Layout
from lethe_producers.__main__ import app as replay_app
from lethe_producers.scenario import scenario_schema

__all__ = ["ROOT", "pages", "rooms_table", "scores_table"]


def pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the Markdown of every generated page."""
    yield "reference/cli.md", _command_line()
    yield "reference/settings.md", _settings()
    yield "reference/learners.md", _learners()
    yield "reference/scenarios.md", _scenarios()
    yield "reference/api.md", _python_api()
    yield "reference/http.md", _http()
    yield "reference/metrics.md", _metrics()


def _command_line() -> str:
    """Return every command of both programs, with arguments, options and defaults."""
    text = [
        "# Command line",
        "Exit status 0 is success, 1 a check that failed, 2 an error with one line on stderr.",
    ]
    for name, program in (("lethe", lethe_app), ("lethe-replay", replay_app)):
        text += _command(name, typer.main.get_command(program))
    return _document(text)


def _command(name: str, command: Any) -> Iterator[str]:
    level = "##" if " " not in name else "###"
    yield f"{level} `{name}`"
    yield inspect.cleandoc(command.help or "")
    if isinstance(command, TyperGroup):
        for child, subcommand in command.commands.items():
            yield from _command(f"{name} {child}", subcommand)
        return
    if examples := commands_in(command.epilog or ""):
        yield "\n".join(["```sh", *examples, "```"])
    if name == "lethe run":
        yield "Every setting is a flag: see [Settings](settings.md)."
    elif rows := [_parameter(parameter) for parameter in command.params if parameter.name != "help"]:
        yield _table(("option", "default", "meaning"), rows)


def _parameter(parameter: Any) -> Sequence[str]:
    """Return an argument or an option of a command as a row."""
    if isinstance(parameter, TyperArgument):
        names = f"`{(parameter.metavar or parameter.name or '').upper()}`"
    else:
        names = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    shown = "" if default is None or callable(default) else f"`{default}`"
    return names, shown, parameter.help or ""


def _settings() -> str:
    """Return every setting of ``lethe run``."""
    text = [
        "# Settings",
        "Every setting of `lethe run` is a flag and a variable. Flags override variables.",
    ]
    text += map(section_markdown, Settings.sections())
    return _document(text)


def _learners() -> str:
    """Return each learner with its paper, what it retains, its options and its docstring."""
    text = [
        "# Learners",
        "[Choose a learner](../how-to/choose-learner.md) compares them. `lethe learners` lists them.",
    ]
    for name, kind in LEARNERS.items():
        text += [
            f"## `{name}`",
            f"{kind.summary[0].upper()}{kind.summary[1:]}. {kind.paper}.",
            f"Retains {kind.retains.value}. Capabilities: {_capabilities(kind)}.",
            f"Batch size {kind.batch_size}.",
            f"`{kind.__module__}`",
            _fenced(inspect.getdoc(kind) or ""),
        ]
        rows = list(_options(kind))
        text.append(_table(("option", "type", "default", "meaning"), rows) if rows else "It has no options.")
    return _document(text)


def _scenarios() -> str:
    """Return every key of a scenario's file, and its JSON Schema."""
    schema = scenario_schema()
    text = [
        "# Scenarios",
        "A scenario is a YAML file; [Use your own data](../how-to/data.md) shows some.",
        "A source that needs only its path or name can be written as a string.",
    ]
    models = {"Scenario": schema, "Segment": schema["$defs"].pop("Segment")} | schema["$defs"]
    for name, model in models.items():
        shape = model["anyOf"][1] if "anyOf" in model else model
        if "properties" not in shape:
            continue
        rows = [
            (
                f"`{key}`",
                _reference(about),
                json.dumps(about["default"]) if about.get("default") not in (None, [], {}) else "",
                about.get("description", ""),
            )
            for key, about in shape["properties"].items()
        ]
        text += [
            f"## {name}",
            shape.get("description", ""),
            _table(("key", "type", "default", "meaning"), rows),
        ]
    document = json.dumps(scenario_schema(), indent=2, ensure_ascii=False)
    text += ["## JSON Schema", "`lethe-replay schema` prints it.", f"```json\n{document}\n```"]
    return _document(text)


def _fenced(docstring: str) -> str:
    """Return the docstring with its examples as code blocks."""
    paragraphs = docstring.split("\n\n")
    return "\n\n".join(f"```pycon\n{p}\n```" if p.startswith(">>>") else p for p in paragraphs)


def _capabilities(kind: type[Learner]) -> str:
    return ", ".join(sorted(kind.capabilities)) or "none"


def _options(kind: type[Learner]) -> Iterator[Sequence[str]]:
    schemas: Mapping[str, Any] = kind.Options.model_json_schema().get("properties", {})
    for name, field in kind.Options.model_fields.items():
        default = json.dumps(field.get_default(call_default_factory=True), ensure_ascii=False)
        yield f"`{name}`", _type(schemas[name]), f"`{default}`", field.description or ""


_BOUNDS: Final = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def _type(schema: Mapping[str, Any]) -> str:
    """Return the type and the bounds of a JSON schema in words."""
    kinds = (
        [schema.get("type", "")] if "anyOf" not in schema else [k.get("type", "") for k in schema["anyOf"]]
    )
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    bounds = [f"{sign} {schema[name]:g}" for name, sign in _BOUNDS.items() if name in schema]
    return " ".join([" or ".join(filter(None, kinds)), ", ".join(bounds)]).strip()


def _python_api() -> str:
    """Return a page that mkdocstrings fills in: every name in ``lethe.__all__``."""
    text = [
        "# Python API",
        "`import lethe` offers these names and loads each on first use. Everything else may change.",
    ]
    for name in lethe.__all__:
        found = getattr(lethe, name)
        options = f"    options:\n      heading: lethe.{name}\n      toc_label: {name}"
        text.append(f"::: {found.__module__}.{found.__qualname__}\n{options}")
    return _document(text)


def _http() -> str:
    """Return every route of a service, from its OpenAPI description."""
    layout = Layout()
    run_state = RunState(Settings(), Finetune, History([]))
    with PredictionWorker(PredictorSnapshots(Finetune(LearnerContext(layout))), layout) as worker:
        predict = PredictEndpoint(worker, Finetune.name, layout, Settings().serve.max_body_bytes)
        api = create_app(
            run_state,
            CollectorRegistry(),
            "",
            PolicyStatus(),
            predict,
            token="-" * 16,
            announce_visit=lambda *_: False,  # only described
        ).openapi()
    text = [
        "# HTTP",
        "A service answers on `--host` and `--port`. `/openapi.json` is this description for machines.",
    ]
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            text.append(f"## `{method.upper()} {path}`")
            text += [operation.get("summary", ""), operation.get("description", "")]
            body = operation.get("requestBody", {}).get("content", {})
            if body:
                text.append("Body: " + ", ".join(f"`{kind}`" for kind in body) + ".")
            parameters = [
                (f"`{p['name']}`", p["in"], _type(p.get("schema", {})), p.get("description", ""))
                for p in operation.get("parameters", [])
            ]
            if parameters:
                text.append(_table(("parameter", "in", "type", "meaning"), parameters))
            answers = [
                (code, ", ".join(f"`{kind}`" for kind in answer.get("content", {})), answer["description"])
                for code, answer in operation["responses"].items()
            ]
            text.append(_table(("status", "content type", "meaning"), answers))
    for name, schema in sorted(api["components"]["schemas"].items()):
        fields = [
            (f"`{field}`", _reference(about), about.get("description", ""))
            for field, about in schema.get("properties", {}).items()
        ]
        if fields:
            text += [
                f"## {name}",
                schema.get("description", ""),
                _table(("field", "type", "meaning"), fields),
            ]
    return _document(text)


def _reference(schema: Mapping[str, Any]) -> str:
    """Return the type of a field; another schema is linked."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_reference, schema["anyOf"]))
    if schema.get("type") == "array":
        return f"array of {_reference(schema.get('items', {}))}"
    return _type(schema) or "any"


def _metrics() -> str:
    """Return every metric that a service registers, with type, labels and help text."""
    registry = CollectorRegistry()
    build = build_labels(Finetune(LearnerContext(Layout())), Finetune.retains)
    metrics = Metrics(registry, sample_bytes=Layout().size, build=build)
    for event in EVENTS:  # labels, and the gauges of the privacy account, exist once they have values
        metrics(event)
    PredictMetrics(registry)
    RejectedRequests(registry)
    target = TargetMetrics(registry)
    for event in EVENTS:
        target(event)
    rows = []
    for family in sorted(registry.collect(), key=lambda family: family.name):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = dict.fromkeys(label for sample in family.samples for label in sample.labels if label != "le")
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append((f"`{family.name}{suffix}`", family.type, shown, family.documentation))
    about = """\
`/metrics` is in Prometheus' text format. Units are base units, accuracies are ratios from 0 to 1.
A counter starts at 0 with the process: take rates of it. What the whole run did is in the gauges
`lethe_run_…`, which are part of the checkpoint. [Get alerts](../how-to/alerts.md) describes rules and
dashboards. Beside these there are those of Prometheus' Python client (`process_…`, `python_…`), and
`lethe_feeder_process_…`, which are those of the reader process."""
    return _document(["# Metrics", about, _table(("metric", "type", "labels", "meaning"), rows)])


def scores_table() -> str:
    """Return a table of every score, with its meaning, formula and paper."""
    table = _table(
        ("score", "meaning", "formula", "paper"),
        [(info.label, info.meaning, f"`{info.formula}`", info.paper) for info in SCORES.values()],
    )
    return table.replace("\\|", "|")  # within code, a pipe is not escaped


def rooms_table() -> str:
    """Return the table of rooms by floor, with what each does and imports."""
    plan = rooms()
    floor = floors(plan)
    documented = {module.name: ast.get_docstring(module.tree) or "" for module in MODULES}
    rows = []
    for room in sorted(plan, key=lambda room: (-floor[room], room)):
        about = documented.get(room) or documented[f"lethe.{room}"]
        imports = ", ".join(
            f"`{other}`" for other in sorted(plan[room], key=lambda other: (-floor[other], other))
        )
        rows.append((str(floor[room]), f"`{room}`", escape(about.split("\n\n")[0]), imports or "–"))
    return _table(("floor", "room", "what it does", "imports"), rows)


def _document(blocks: Iterable[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """Write every page under the folder that the command line names."""
    folder = Path(sys.argv[1])
    for path, text in pages():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


if __name__ == "__main__":
    main()
