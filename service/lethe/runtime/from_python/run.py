"""The function `lethe.run`: learn arrays, datasets or iterators once, and measure what is forgotten."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from lethe.events import Event
from lethe.ingest.memory_feed import MemoryFeed
from lethe.learners.base import Learner
from lethe.learners.registry import find
from lethe.learners.state import JSON
from lethe.probeset import ProbeSet, check_probe
from lethe.runtime.factories import create_learner
from lethe.runtime.from_python.labels import Classes, classes_of
from lethe.runtime.from_python.learn import learn_feed
from lethe.runtime.from_python.result import Run
from lethe.runtime.from_python.samples import Data, first, items, layout_of, values
from lethe.settings import BatchSettings, DriftSettings, EvaluationSettings, LearnerSettings, Settings
from lethe.wire import Layout, Pixels, Sample

__all__ = ["Probes", "Segments", "Stream", "infer", "named_probes", "probe_sets", "run"]

Segments: TypeAlias = Mapping[str, Data] | Sequence[tuple[str, Data]] | Data
"""Labelled samples by the name of their segment, or without segments."""
Probes: TypeAlias = Mapping[str, Data] | Sequence[ProbeSet]
"""Held-out samples by the name of the segment that they test."""
Stream: TypeAlias = list[tuple[str | None, Data]]
"""Labelled samples with the names of their segments, in order."""


def run(
    learner: str | Learner,
    segments: Segments,
    probes: Probes | None = None,
    *,
    options: Mapping[str, JSON] | None = None,
    seed: int = 0,
    classes: int | Sequence[str] | None = None,
    layout: Layout | None = None,
    batch_size: int | None = None,
    every: int = 5000,
    subset: int = 1000,
    window: int = 10,
    oracle: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_event: Callable[[Event], None] | None = None,
    name: str | None = None,
) -> Run:
    """Learn a stream once, each batch once, and return what was learned and forgotten.

    It is the service without Kafka: the same loop, evaluations, boundary detection and scores. The learner
    predicts each batch before it learns it. It is evaluated before the first sample, every ``every`` samples
    on a subset of each probe, and on whole probes at the end of each segment, where a batch ends, too.

    ``learner`` is the name of one, created with ``options``, ``seed`` and ``device``, or a learner, which
    continues where it is. ``segments`` maps the name of each segment to its samples, in the order of the
    stream; a list of pairs may name a segment twice, and samples alone are a stream without segments. Samples
    are one of

    - a pair ``(x, y)`` of arrays, tensors or tables: images [N, H, W], [N, C, H, W] or [N, H, W, C], uint8 or
      floats from 0 to 1, or vectors [N, F] of any finite numbers, such as the columns of a pandas frame; and
      N labels;
    - a dataset of pairs ``(sample, label)``, such as torchvision's, read by index;
    - an iterable of such pairs or of batches of them, such as torch's ``DataLoader``, read once.

    Nothing is shuffled: samples are learned in the order in which they are given. ``probes`` maps the name of
    a segment to held-out samples of it; without probes only the stream itself is measured. Labels are numbers
    from 0, or names.

    The ``layout`` is inferred from the first sample, and the classes from the labels and the data sets'
    ``classes``; those of an iterator are not known before it is read: give ``classes``, a number or names.
    ``batch_size`` is by default the learner's own. ``subset`` samples of each probe are used in a segment;
    ``window`` is the w of windowed forgetting and plasticity. With ``oracle`` the learner is given the
    segments' boundaries instead of the detected ones. ``on_event`` is called with each event of the run, and
    ``name`` names the stream in reports.

    Raises ValueError, naming segment and sample, for samples or labels that do not fit, InvalidSetting for
    an unknown learner or option, TypeError for a class in place of a learner and for options of a learner
    that is created already, and DivergedLoss.

    >>> import lethe, numpy as np
    >>> random = np.random.default_rng(0)
    >>> def shapes(a, b, n):  # images of two classes: bright in row a, or in row b
    ...     y = random.integers(2, size=n)
    ...     x = random.integers(60, size=(n, 8, 8), dtype=np.uint8)
    ...     x[np.arange(n), np.where(y == 0, a, b)] = 255
    ...     return x, y
    >>> segments = {"first": shapes(1, 2, 1280), "second": shapes(2, 1, 1280)}  # the meaning is turned over
    >>> probes = {"first": shapes(1, 2, 200), "second": shapes(2, 1, 200)}
    >>> run = lethe.run("finetune", segments, probes, options={"backbone": "mlp"})
    >>> run.R.shape  # before the first segment, and after each of two; on each of two probes
    (3, 2)
    >>> run.bwt < -0.9
    True
    """
    if isinstance(learner, type):
        raise TypeError(
            f"learner: {learner.__name__} is a class; give an instance, such as "
            f"{learner.__name__}(lethe.LearnerContext(layout)), or the name under which it is installed"
        )
    if options and not isinstance(learner, str):
        raise TypeError(
            f"options: the learner {learner.name} is created already; give them to its LearnerContext, or "
            "give its name in its place"
        )
    stream, held_out = _named(segments), named_probes(probes or {})
    if layout is None:
        stream, layout, known = infer(stream, held_out, classes)
    else:
        known = Classes(layout.classes, () if classes is None or isinstance(classes, int) else classes)
    sets = probe_sets(held_out, layout, known)
    kind = find(learner) if isinstance(learner, str) else type(learner)
    size = batch_size or kind.batch_size
    chosen = LearnerSettings(name=kind.name, seed=seed, options=dict(options or {}), device=device)
    settings = Settings(
        sample=layout,
        learner=chosen,
        batch=BatchSettings(size=size, slots=2),
        drift=DriftSettings(oracle=oracle),
        evaluation=EvaluationSettings(every=every, subset=subset, window=window, min_segment=1),
    )
    learning = create_learner(chosen, layout, size) if isinstance(learner, str) else learner
    feed = MemoryFeed(_samples(stream, layout, known), None, settings.batch, layout, split=True)
    state = learn_feed(learning, feed, sets, settings, class_names=known.names, on_event=on_event)
    return Run(state.result().model_copy(update={"broker": "none", "scenario": name}), learning)


def _named(segments: Segments) -> Stream:
    """Return the segments with their names; None for a stream without segments."""
    if isinstance(segments, Mapping):
        found: Stream = list(segments.items())
    elif isinstance(segments, list) and segments and all(map(_is_named, segments)):
        found = list(segments)
    else:
        found = [(None, segments)]
    if not found:
        raise ValueError("segments: there are none")
    return found


def _is_named(pair: object) -> bool:
    return isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)


def named_probes(probes: Probes) -> list[tuple[str, Data]]:
    """Return the held-out samples with the name of each probe."""
    if isinstance(probes, Mapping):
        return list(probes.items())
    return [(probe.name, probe) for probe in probes]


def infer(
    stream: Stream, held_out: Sequence[tuple[str, Data]], classes: int | Sequence[str] | None
) -> tuple[Stream, Layout, Classes]:
    """Return the stream, which still has its first sample, that sample's layout, and the classes.

    Raises ValueError where layout or classes cannot be inferred from what is given.
    """
    (name, data), *others = stream
    sample, data = first(data, _segment(name))
    stream = [(name, data), *others]
    sources = [(_segment(name), data) for name, data in stream]
    known = classes_of(classes, [*sources, *((_probe(name), data) for name, data in held_out)])
    return stream, layout_of(sample, known.count, _segment(name)), known


def probe_sets(probes: Sequence[tuple[str, Data]], layout: Layout, classes: Classes) -> list[ProbeSet]:
    """Return probe sets of held-out samples by name.

    Raises ValueError for samples or labels that do not fit, InvalidFile for a name that a probe cannot have.
    """
    return [_probe_set(name, data, layout, classes) for name, data in probes]


def _probe_set(name: str, data: Data, layout: Layout, classes: Classes) -> ProbeSet:
    samples = list(_labelled(data, layout, classes, _probe(name)))
    if not samples:
        raise ValueError(f"{_probe(name)}: there are no samples")
    probe = ProbeSet(
        name,
        np.stack([x for x, _ in samples]),
        np.array([label for _, label in samples], np.int64),
        source="given from Python",
        consent="not stated",
        classes=classes.names,
    )
    check_probe(probe)
    return probe


def _samples(stream: Stream, layout: Layout, classes: Classes) -> Iterator[Sample]:
    for name, data in stream:
        for x, label in _labelled(data, layout, classes, _segment(name)):
            yield Sample(x, label, name)


def _labelled(data: Data, layout: Layout, classes: Classes, where: str) -> Iterator[tuple[Pixels, int]]:
    for number, (sample, label) in enumerate(items(data, where)):
        place = f"{where}, sample {number}"
        yield values(sample, layout, place), classes.label(label, place)


def _segment(name: str | None) -> str:
    return "the stream" if name is None else f"segment {name}"


def _probe(name: str) -> str:
    return f"probe {name}"
