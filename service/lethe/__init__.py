"""Lethe learns online from a Kafka stream and shows what it is forgetting.

::

    lethe_producers                   lethe
    dataset ─► scenario ─► replay ─► [Kafka topic] ─► source ─► wire.decode ─► batch
                                                                                │
                                                                                ▼
                                                                predict ─► learn ─► discard
                                                                                │
                                                                                ▼
                                 probes ─► evaluate ─► events ─► metrics ─► Prometheus

A sample goes down this road once and in one direction; nothing upstream imports anything
downstream.

The names in ``__all__`` are the public interface; every other module may change. They are imported when
they are first used, so that ``import lethe`` loads neither torch nor Kafka.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lethe.errors import (
        DivergedLoss,
        InvalidFile,
        InvalidSetting,
        LetheError,
        MalformedRecord,
        MissingExtra,
        NeverLearned,
    )
    from lethe.learners.base import Learned, Learner, LearnerContext, Retention
    from lethe.learners.capabilities import (
        Capability,
        Expires,
        KeepsSums,
        Merges,
        Unlearns,
        UnlearnsFromRegimes,
    )
    from lethe.learners.checks import checks_for
    from lethe.learners.options import Options
    from lethe.learners.registry import create
    from lethe.learners.state import State
    from lethe.observability.result import RunResult
    from lethe.probeset import ProbeSet
    from lethe.runtime.from_python.result import Run
    from lethe.runtime.from_python.run import run
    from lethe.runtime.from_python.topic import run_topic
    from lethe.settings import Settings
    from lethe.wire import Layout, Sample, decode, encode

__all__ = [
    "Capability",
    "DivergedLoss",
    "Expires",
    "InvalidFile",
    "InvalidSetting",
    "KeepsSums",
    "Layout",
    "Learned",
    "Learner",
    "LearnerContext",
    "LetheError",
    "MalformedRecord",
    "Merges",
    "MissingExtra",
    "NeverLearned",
    "Options",
    "ProbeSet",
    "Retention",
    "Run",
    "RunResult",
    "Sample",
    "Settings",
    "State",
    "Unlearns",
    "UnlearnsFromRegimes",
    "checks_for",
    "create",
    "decode",
    "encode",
    "run",
    "run_topic",
]

_HOMES: Final = {
    "lethe.errors": (
        "DivergedLoss",
        "InvalidFile",
        "InvalidSetting",
        "LetheError",
        "MalformedRecord",
        "MissingExtra",
        "NeverLearned",
    ),
    "lethe.learners.base": ("Learned", "Learner", "LearnerContext", "Retention"),
    "lethe.learners.capabilities": (
        "Capability",
        "Expires",
        "KeepsSums",
        "Merges",
        "Unlearns",
        "UnlearnsFromRegimes",
    ),
    "lethe.learners.checks": ("checks_for",),
    "lethe.learners.options": ("Options",),
    "lethe.learners.registry": ("create",),
    "lethe.learners.state": ("State",),
    "lethe.observability.result": ("RunResult",),
    "lethe.probeset": ("ProbeSet",),
    "lethe.runtime.from_python.result": ("Run",),
    "lethe.runtime.from_python.run": ("run",),
    "lethe.runtime.from_python.topic": ("run_topic",),
    "lethe.settings": ("Settings",),
    "lethe.wire": ("Layout", "Sample", "decode", "encode"),
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, too."""
    return sorted({*globals(), *__all__})
