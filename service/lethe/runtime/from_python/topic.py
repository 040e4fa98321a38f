"""The function `lethe.run_topic`: learn a Kafka topic from Python, with the service itself."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lethe.events import Event
from lethe.learners.state import JSON
from lethe.probeset import load_folder, save_probe
from lethe.runtime.from_python.labels import Classes
from lethe.runtime.from_python.result import Run
from lethe.runtime.from_python.run import Probes, infer, named_probes, probe_sets
from lethe.runtime.run import load_inputs, run_inputs
from lethe.settings import Settings
from lethe.wire import Layout

__all__ = ["run_topic"]


def run_topic(
    learner: str,
    topic: str,
    probes: Path | str | Probes | None = None,
    *,
    bootstrap_servers: str = "127.0.0.1:9092",
    samples: int | None = None,
    options: Mapping[str, JSON] | None = None,
    seed: int = 0,
    layout: Layout | None = None,
    every: int = 5000,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Run:
    """Learn from a Kafka topic and return what was learned and forgotten: ``lethe run`` as a function.

    It ends after ``samples`` records, or when it is interrupted with Ctrl-C or, in a notebook, the stop
    button; what was measured by then is returned. Call it from the main thread. In a script, the call must be
    below ``if __name__ == "__main__":``, because another process reads the topic.

    ``probes`` is a folder that ``lethe-replay probes`` wrote, or held-out samples as for `lethe.run`. Without
    a ``layout`` it is that of the probes, and of 28×28 grey pixels in ten classes if there are none.
    ``settings`` are further settings of ``lethe run`` by section, such as
    ``{"checkpoint": {"folder": "state"}}``; metrics and the live page are served on a free port of this
    machine, which is logged. ``on_event`` is called with each event of the run, such as
    `lethe.events.Evaluated`.

    Raises InvalidSetting, InvalidFile, and the LetheError that makes it impossible to continue; ValueError
    for probes that do not fit.
    """
    with TemporaryDirectory() as folder:
        if probes is not None and not isinstance(probes, str | Path):
            layout, probes = _written(probes, layout, Path(folder))
        elif probes is not None and layout is None:
            layout = _layout_of_folder(Path(probes))
        own: dict[str, dict[str, Any]] = {
            "stream": {"bootstrap_servers": bootstrap_servers, "topic": topic, "stop_after": samples},
            "sample": (layout or Layout()).model_dump(),
            "learner": {"name": learner, "options": dict(options or {}), "seed": seed},
            "evaluation": {"probes": probes, "every": every},
            "serve": {"port": 0},
        }
        for section, values in (settings or {}).items():
            own[section] = {**own.get(section, {}), **values}
        inputs = load_inputs(Settings.read(own))
        result = run_inputs(inputs, on_event=on_event)
    return Run(result, inputs.learner)


def _written(probes: Probes, layout: Layout | None, folder: Path) -> tuple[Layout, Path]:
    """Write probes given as samples into ``folder``, and return their layout with it."""
    held_out = named_probes(probes)
    if layout is None:
        _, layout, classes = infer([*held_out], held_out, None)
    else:
        classes = Classes(layout.classes)
    for order, probe in enumerate(probe_sets(held_out, layout, classes)):
        save_probe(probe, folder, order)
    return layout, folder


def _layout_of_folder(folder: Path) -> Layout:
    """Return the layout of the probes in ``folder``."""
    probes = load_folder(folder)
    return infer([(probe.name, probe) for probe in probes], [], None)[1]
