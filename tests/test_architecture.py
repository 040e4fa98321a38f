"""The map in the design holds: who may import whom is read from the code itself, lazy imports included."""

import ast
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.modules import Module, imports_in, of, within


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
        # `from service.web import app` counts as service.web, too, which alone says nothing
        packages = any(within(allowed, name) for allowed in self.allowed)
        return packages or any(within(name, allowed) for allowed in (*self.allowed, module.name))


ONLY = [
    Only(
        who=("producers",),
        what="service",
        allowed=(
            "service.wire",
            "service.probeset",
            "service.errors",
            "service.section",
            "service.stream.client",
        ),
        why="a producer knows the two contracts and how kafka-python is tamed, not the service behind them",
    ),
    Only(
        who=("service.wire",),
        what="service",
        allowed=("service.errors", "service.section"),
        why="the contract stands on its own: any producer can use it",
    ),
    Only(
        who=("service.errors", "service.section"),
        what="service",
        allowed=(),
        why="everybody imports these, so they import nobody",
    ),
    Only(
        who=("service.events",),
        what="service",
        allowed=("service.events",),
        why="numbers alone: an event that knew more could carry it out of the loop",
    ),
    Only(
        who=("service.metrics", "service.knowledge_metrics", "service.run_metrics", "service.log"),
        what="service",
        allowed=("service.events", "service.knowledge_metrics", "service.run_metrics"),
        why="numbers are all that leaves the loop: no pixel can reach a metric or a log",
    ),
    Only(
        who=("service.learners",),
        what="service",
        allowed=("service.wire", "service.errors", "service.learners"),
        why="a learner sees a batch: not where it came from, nor how it is judged",
    ),
    Only(
        who=("service.evaluation",),
        what="service",
        allowed=(
            "service.evaluation",
            "service.events",
            "service.errors",
            "service.probeset",
            "service.learners.base",
        ),
        why="every learner is measured through the contract, by one and the same code",
    ),
    Only(
        who=("service.evaluation.forgetting", "service.evaluation.prequential"),
        what="service",
        allowed=(),
        why="the formulas are pure functions of numbers",
    ),
    Only(
        who=("service.drift",),
        what="service",
        allowed=("service.drift",),
        why="boundaries are found in plain numbers: neither learners nor headers are asked",
    ),
    Only(
        who=("service.slots", "service.stream.source", "service.probeset"),
        what="service",
        allowed=("service.wire", "service.section", "service.errors"),
        why="both sides of the process boundary stand on these",
    ),
    Only(
        who=("service.web",),
        what="service",
        allowed=(
            "service.web",
            "service.journal",
            "service.privacy.standing",
            "service.result",
            "service.report",
            "service.prediction",
            "service.wire",
            "service.errors",
        ),
        why="what is shown over HTTP is numbers, and pixels come in, for a prediction, but never out",
    ),
    Only(
        who=("service.report",),
        what="service",
        allowed=("service.report", "service.result", "service.evaluation.forgetting"),
        why="a report is drawn from the document that a run left, also long afterwards",
    ),
]
"""Who imports nothing else of something."""


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
        who=("service",),
        what=("producers",),
        except_in=("service.demo", "service.bench", "service.chaos", "service.attack"),
        why="the road has one direction; demo, benchmarks and chaos stand above both ends of it",
    ),
    Never(
        who=("service", "producers", "deploy"),
        what=("kafka",),
        except_in=(
            "service.stream.broker",
            "service.stream.cluster",
            "service.stream.client",
            "service.stream.refusal",
            "service.stream.deadletter",
            "service.stream.purge",
            "producers.publisher",
        ),
        why="one client library can be exchanged in five places",
    ),
    Never(
        who=("service", "producers"),
        what=("confluent_kafka",),
        except_in=("service.stream.embedded",),
        why="the embedded broker is an extra that a deployment does without",
    ),
    Never(
        who=("service",),
        what=("torchvision",),
        why="the service knows samples and probe files, not data sets",
    ),
    Never(
        who=("service", "producers"),
        what=("pickle", "shelve", "marshal", "dill", "joblib"),
        why="whoever can change a pickle runs code here; tensors are safetensors, the rest is JSON",
    ),
    Never(
        who=("service.loop",),
        what=(
            "service.compose",
            "service.journal",
            "service.metrics",
            "service.settings",
            "service.stream.broker",
            "service.stream.embedded",
            "service.stream.deadletter",
            "service.feed.FeederProcess",
            "service.learners.finetune",
            "service.learners.ridge",
            "service.learners.LEARNERS",
            "service.web",
            "kafka",
        ),
        why="the loop is given its feed, learner and subscribers ready-made",
    ),
    Never(
        who=("service.learners", "service.evaluation", "service.feeder", "service.batching", "service.loop"),
        what=("prometheus_client", "fastapi", "uvicorn", "plotly", "rich", "typer"),
        why="learning does not know who watches",
    ),
    Never(
        who=("service", "producers", "deploy"),
        what=("tests", "pytest", "hypothesis"),
        why="tests depend on the code",
    ),
    Never(
        who=("service",),
        what=("service.cli",),
        why="commands are where everything begins",
    ),
    Never(
        who=("service",),
        what=("service.compose",),
        except_in=("service.cli", "service.bench"),
        why="the composition root is for commands",
    ),
]
"""Who never imports something."""


@pytest.mark.parametrize("rule", NEVER, ids=lambda rule: f"no {rule.what[0]} in {rule.who[0]}: {rule.why}")
def test_a_module_never_imports_what_it_must_not(rule: Never) -> None:
    assert rule.broken() == []


LIGHT = [
    ("service", ("torch", "kafka", "numpy"), "the package imports nothing"),
    ("service.wire", ("torch", "kafka"), "a producer is small"),
    ("service.probeset", ("torch", "kafka"), "so is what writes probes"),
    ("service.slots", ("torch", "kafka"), "the feeder's process starts quickly"),
    ("service.batching", ("torch",), "the feeder's process starts quickly, and stays small"),
    ("service.feed", ("torch",), "the same"),
    ("service.feeder", ("torch",), "the same"),
    ("service.events", ("torch", "kafka", "numpy"), "plain numbers"),
    ("service.metrics", ("torch", "kafka"), "plain numbers"),
    ("service.log", ("torch", "kafka"), "plain numbers"),
    ("service.result", ("torch", "kafka"), "a report needs no learner"),
    ("service.report", ("torch", "kafka", "plotly"), "of Plotly, the script alone"),
    ("service.settings", ("torch", "kafka"), "lethe run --help answers at once"),
    ("service.flags", ("torch", "kafka"), "lethe run --help answers at once"),
    ("service.cli", ("torch", "kafka", "plotly", "uvicorn", "producers"), "lethe --help answers at once"),
    ("producers", ("torch", "kafka"), "the package imports nothing"),
    ("producers.__main__", ("torch", "kafka"), "lethe-replay --help answers at once"),
]
"""What importing a module must not load, and why."""


@pytest.mark.parametrize(("module", "heavy", "why"), LIGHT, ids=[row[0] for row in LIGHT])
def test_importing_a_light_module_loads_nothing_heavy(module: str, heavy: tuple[str, ...], why: str) -> None:
    script = f"import sys, {module}; print(*sorted({set(heavy)!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.split() == [], why


def test_a_lazy_import_counts() -> None:
    tree = ast.parse("def f():\n    from kafka.admin import NewTopic\n    import torch\n")
    assert set(imports_in(ast.walk(tree))) == {"kafka.admin", "kafka.admin.NewTopic", "torch"}
