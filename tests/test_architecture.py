"""Which rooms and modules may import which; read from the code, including lazy imports."""

import ast
import subprocess
import sys
from dataclasses import dataclass
from graphlib import CycleError

import pytest

from docs.modules import Module, floors, imports_in, of, rooms, within


@dataclass(frozen=True)
class Only:
    """Of ``what``, the modules in ``who`` import ``allowed`` and nothing else."""

    who: tuple[str, ...]
    what: str
    allowed: tuple[str, ...]
    why: str

    def broken(self) -> list[str]:
        return [
            f"{module.name} imports {name}"
            for module in of(*self.who)
            for name in sorted(module.imports)
            if within(name, self.what) and name != self.what and not self._allows(module, name)
        ]

    def _allows(self, module: Module, name: str) -> bool:
        # `from lethe.web import app` counts as lethe.web, too, which alone says nothing
        packages = any(within(allowed, name) for allowed in self.allowed)
        return packages or any(within(name, allowed) for allowed in (*self.allowed, module.name))


ONLY = [
    Only(
        who=("lethe_producers",),
        what="lethe",
        allowed=(
            "lethe.wire",
            "lethe.probeset",
            "lethe.errors",
            "lethe.models",
            "lethe.stream.addresses",
            "lethe.stream.admin",
            "lethe.stream.broker_errors",
            "lethe.stream.connection",
            "lethe.stream.kafka_patches",
            "lethe.stream.security",
            "lethe.files.bounded_json",
            "lethe.files.terminal",
            "lethe.files.yaml",
        ),
        why="producers share the wire format, probe sets, and how to connect to a cluster and find a file",
    ),
    Only(
        who=("lethe.wire",),
        what="lethe",
        allowed=("lethe.errors", "lethe.models", "lethe.wire"),
        why="any producer can use the wire format without the service",
    ),
    Only(
        who=("lethe.errors", "lethe.models"),
        what="lethe",
        allowed=(),
        why="imported everywhere, so they import nothing",
    ),
    Only(
        who=("lethe.events",),
        what="lethe",
        allowed=("lethe.events",),
        why="events are plain numbers, so that no sample can leave the loop in one",
    ),
    Only(
        who=(
            "lethe.observability.metrics",
            "lethe.observability.learning_metrics",
            "lethe.observability.rank_metrics",
            "lethe.observability.run_metrics",
            "lethe.observability.log",
        ),
        what="lethe",
        allowed=(
            "lethe.events",
            "lethe.observability.learning_metrics",
            "lethe.observability.rank_metrics",
            "lethe.observability.run_metrics",
        ),
        why="no pixel can reach a metric or a log",
    ),
    Only(
        who=("lethe.learners",),
        what="lethe",
        allowed=("lethe.wire", "lethe.errors", "lethe.learners"),
        why="a learner sees batches, not where they come from or how it is evaluated",
    ),
    Only(
        who=("lethe.evaluation",),
        what="lethe",
        allowed=(
            "lethe.evaluation",
            "lethe.events",
            "lethe.errors",
            "lethe.probeset",
            "lethe.models",
            "lethe.learners.base",
            "lethe.learners.fixed_features",
            "lethe.learners.predictor",
            "lethe.learners.state",
        ),
        why="every learner is evaluated by the same code, through its base class and its fixed features",
    ),
    Only(
        who=("lethe.evaluation.score_formulas", "lethe.evaluation.prequential"),
        what="lethe",
        allowed=(),
        why="the formulas are pure functions of numbers",
    ),
    Only(
        who=("lethe.drift",),
        what="lethe",
        allowed=("lethe.drift",),
        why="detection works on plain numbers and depends on neither learners nor headers",
    ),
    Only(
        who=("lethe.ingest.slots", "lethe.stream.source", "lethe.probeset"),
        what="lethe",
        allowed=(
            "lethe.wire",
            "lethe.models",
            "lethe.errors",
            "lethe.files.bounded_json",
            "lethe.settings.BatchSettings",
        ),
        why="both processes import these",
    ),
    Only(
        who=("lethe.web",),
        what="lethe",
        allowed=(
            "lethe.web",
            "lethe.files.html.templates",
            "lethe.observability.run_state",
            "lethe.privacy.status",
            "lethe.observability.result",
            "lethe.observability.model_standing",
            "lethe.report",
            "lethe.events",
            "lethe.learners.base",
            "lethe.learners.finite",
            "lethe.learners.parallel",
            "lethe.learners.predictor",
            "lethe.wire",
            "lethe.errors",
        ),
        why="HTTP serves numbers; pixels are received for predictions and never sent",
    ),
    Only(
        who=("lethe.report",),
        what="lethe",
        allowed=(
            "lethe.report",
            "lethe.files.html.templates",
            "lethe.observability.result",
            "lethe.evaluation.objective",
            "lethe.evaluation.score_formulas",
            "lethe.events",
        ),
        why="a report needs nothing but run.json",
    ),
]
"""What the modules of a room may import."""


@pytest.mark.parametrize("rule", ONLY, ids=lambda rule: f"{rule.who[0]}: {rule.why}")
def test_a_module_imports_what_it_may_and_nothing_else(rule: Only) -> None:
    assert rule.broken() == []


@dataclass(frozen=True)
class Never:
    """Outside of ``except_in``, no module in ``who`` imports anything of ``what``."""

    who: tuple[str, ...]
    what: tuple[str, ...]
    why: str
    except_in: tuple[str, ...] = ()

    def broken(self) -> list[str]:
        exempt = {module.name for name in self.except_in for module in of(name)}
        return [
            f"{module.name} imports {what}"
            for module in of(*self.who)
            for what in self.what
            if module.name not in exempt and module.needs(what)
        ]


NEVER = [
    Never(
        who=("lethe",),
        what=("lethe_producers",),
        except_in=("lethe.experiments",),
        why="only experiments stand above both the producers and the service",
    ),
    Never(
        who=("lethe", "lethe_producers", "deploy"),
        what=("kafka",),
        except_in=(
            "lethe.stream.consumer",
            "lethe.stream.admin",
            "lethe.stream.kafka_patches",
            "lethe.stream.broker_errors",
            "lethe.stream.connection",
            "lethe.stream.purge",
            "lethe.stream.commits",
            "lethe.stream.security",
            "lethe_producers.publisher",
            "lethe.experiments.chaos.clients",
        ),
        why="few places depend on the client library",
    ),
    Never(
        who=("lethe", "lethe_producers"),
        what=("confluent_kafka",),
        except_in=("lethe.stream.embedded_broker",),
        why="the embedded broker is an optional extra",
    ),
    Never(
        who=("lethe",),
        what=("torchvision",),
        except_in=("lethe.learners.features.torchvision_features",),
        why="the service reads samples and probe files, not data sets",
    ),
    Never(
        who=("lethe", "lethe_producers"),
        what=("pickle", "shelve", "marshal", "dill", "joblib"),
        why="a modified pickle executes code; tensors are safetensors, the rest is JSON",
    ),
    Never(
        who=("lethe.runtime.loop",),
        what=(
            "lethe.runtime.run",
            "lethe.observability.run_state",
            "lethe.observability.metrics",
            "lethe.settings",
            "lethe.stream.consumer",
            "lethe.stream.embedded_broker",
            "lethe.stream.dead_letters",
            "lethe.stream.line_topic",
            "lethe.ingest.reader_process.ReaderProcess",
            "lethe.learners.gradient.finetune",
            "lethe.learners.analytic.ridge",
            "lethe.learners.registry.LEARNERS",
            "lethe.web",
            "kafka",
        ),
        why="the loop is passed its feed, learner and subscribers",
    ),
    Never(
        who=(
            "lethe.learners",
            "lethe.evaluation",
            "lethe.ingest.reader",
            "lethe.ingest.batcher",
            "lethe.runtime.loop",
        ),
        what=("prometheus_client", "fastapi", "uvicorn", "plotly", "rich", "typer"),
        why="learning does not depend on what displays it",
    ),
    Never(
        who=("lethe", "lethe_producers", "deploy", "docs"),
        what=("tests", "pytest", "hypothesis"),
        why="neither code nor site depends on the tests",
    ),
    Never(
        who=("lethe",),
        what=("lethe.cli.main",),
        except_in=("lethe.__main__",),
        why="commands are entry points",
    ),
    Never(
        who=("lethe",),
        what=("lethe.runtime.run",),
        except_in=(
            "lethe.cli.run",
            "lethe.runtime.run_rank",
            "lethe.runtime.from_python.topic",
            "lethe.experiments.bench",
        ),
        why="only commands and lethe.run_topic start a service",
    ),
]
"""What the modules of a room never import."""


@pytest.mark.parametrize("rule", NEVER, ids=lambda rule: f"no {rule.what[0]} in {rule.who[0]}: {rule.why}")
def test_a_module_never_imports_what_it_must_not(rule: Never) -> None:
    assert rule.broken() == []


LIGHT = [
    ("lethe", ("torch", "kafka", "numpy"), "the package imports nothing"),
    ("lethe.wire", ("torch", "kafka"), "a producer is small"),
    ("lethe.probeset", ("torch", "kafka"), "so is what writes probes"),
    ("lethe.ingest.slots", ("torch", "kafka"), "the reader process starts quickly"),
    ("lethe.ingest.batcher", ("torch",), "the reader process starts quickly, and stays small"),
    ("lethe.ingest.reader_process", ("torch",), "the same"),
    ("lethe.ingest.reader", ("torch",), "the same"),
    ("lethe.events", ("torch", "kafka", "numpy"), "plain numbers"),
    ("lethe.observability.metrics", ("torch", "kafka"), "plain numbers"),
    ("lethe.observability.log", ("torch", "kafka"), "plain numbers"),
    ("lethe.observability.result", ("torch", "kafka"), "a report needs no learner"),
    ("lethe.report", ("torch", "kafka", "plotly"), "of Plotly, the script alone"),
    ("lethe.settings", ("torch", "kafka"), "lethe run --help answers at once"),
    ("lethe.cli.flags", ("torch", "kafka"), "lethe run --help answers at once"),
    (
        "lethe.cli.main",
        ("torch", "kafka", "plotly", "uvicorn", "lethe_producers"),
        "lethe --help answers at once",
    ),
    ("lethe_producers", ("torch", "kafka"), "the package imports nothing"),
    ("lethe_producers.__main__", ("torch", "kafka"), "lethe-replay --help answers at once"),
]
"""What importing a module must not load, and why."""


@pytest.mark.parametrize(("module", "heavy", "why"), LIGHT, ids=[row[0] for row in LIGHT])
def test_importing_a_light_module_loads_nothing_heavy(module: str, heavy: tuple[str, ...], why: str) -> None:
    script = f"import sys, {module}; print(*sorted({set(heavy)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.split() == [], why


def test_no_test_module_is_imported_by_another() -> None:
    importers = {
        f"{module.name} imports {name}"
        for module in of("tests")
        for name in module.imports
        if within(name, "tests") and name.split(".")[-1].startswith(("test_", "conftest"))
    }
    assert importers == set(), "what tests share is in tests/support"


def test_a_lazy_import_counts() -> None:
    tree = ast.parse("def f():\n    from kafka.admin import NewTopic\n    import torch\n")
    assert set(imports_in(ast.walk(tree))) == {"kafka.admin", "kafka.admin.NewTopic", "torch"}


MOST_ROOMS, MOST_FLOORS = 22, 10


def test_there_are_few_rooms_and_every_import_leads_down() -> None:
    plan = rooms()
    floor = floors(plan)
    for room in sorted(plan, key=lambda room: (floor[room], room)):
        print(f"{floor[room]:2} {room:18} imports {', '.join(sorted(plan[room])) or 'none'}")
    imports, height = sum(map(len, plan.values())), 1 + max(floor.values())
    print(f"{len(plan)} rooms on {height} floors, {imports} imports between them")
    assert len(plan) <= MOST_ROOMS
    assert height <= MOST_FLOORS
    assert all(floor[other] < floor[room] for room in plan for other in plan[room])


def test_rooms_that_import_each_other_would_be_found() -> None:
    with pytest.raises(CycleError):
        floors({"a": frozenset("b"), "b": frozenset("a")})
