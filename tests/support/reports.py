"""Synthetic runs for the report's tests, and a report as a browser sees it."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from lethe.evaluation.history import History
from lethe.evaluation.objective import FloorTime, sampling_noise, within_floors
from lethe.events import SCORES, Evaluated, Reading, SampleCounts
from lethe.observability.result import (
    ClassPoint,
    EvaluationPoint,
    PrequentialPoint,
    RunResult,
    SegmentSwitch,
    ThroughputPoint,
)
from lethe.report import write_report

__all__ = ["EVERY", "SEGMENT", "Page", "course", "demo", "made_up", "nameless", "report", "started"]

EVERY = 2000
SEGMENT = 60_000


def course(
    learner: str,
    keeps: float,
    *,
    segments: Sequence[str] = ("mnist", "fashion-mnist"),
    top: Sequence[float] = (0.977, 0.872),
) -> History:
    """A history as the loop produces it: accuracy rises in a segment, and a share ``keeps`` of it stays."""
    noise = random.Random(learner)
    names = list(dict.fromkeys(segments))
    peak = {name: top[place % len(top)] for place, name in enumerate(names)}
    skill = dict.fromkeys(names, 0.1)
    history = History(names)

    def read(accuracy: Mapping[str, float]) -> dict[str, Reading]:
        """Accuracy by class; confidence stays high after forgetting."""
        return {
            name: Reading(a, a, tuple(a ** (0.25 + k / 6) for k in range(10)), 0.8 * (1 - a))
            for name, a in accuracy.items()
        }

    def measure(samples: int, ends: bool) -> None:
        shown = {n: min(1.0, max(0.0, a if ends else a + noise.gauss(0, 0.006))) for n, a in skill.items()}
        visit = len(history.segments)
        segment = history.segments[-1] if visit else None
        history.evaluated(Evaluated(samples, read(shown), ends or visit == 0, visit, segment, ends, 0.1))

    history.evaluated(Evaluated(0, read(skill), True, 0, None, False, 0.1))
    for visit, taught in enumerate(segments):
        history.segment_started(taught)
        before = dict(skill)
        for step in range(1, SEGMENT // EVERY + 1):
            done = step * EVERY
            for name in names:
                goal, pace = (
                    (peak[name], 1500) if name == taught else (0.1 + keeps * (before[name] - 0.1), 6000)
                )
                skill[name] = goal + (before[name] - goal) * math.exp(-done / pace)
            history.learned(EVERY, round(EVERY * skill[taught]))
            measure(visit * SEGMENT + done, step == SEGMENT // EVERY)
    return history


def made_up(
    learner: str,
    keeps: float,
    *,
    segments: Sequence[str] = ("mnist", "fashion-mnist"),
    top: Sequence[float] = (0.977, 0.872),
    speed: float = 5200.0,
    retains: str = "nothing",
) -> RunResult:
    """The result of a `course`."""
    noise = random.Random(learner)
    history = course(learner, keeps, segments=segments, top=top)
    throughput = [
        ThroughputPoint(samples=samples, samples_per_second=speed * (1 + 0.04 * noise.gauss(0, 1)))
        for samples in range(EVERY, SEGMENT * len(segments) + 1, EVERY)
    ]
    latest = history.latest()
    assert latest is not None
    learned, floors = SEGMENT * len(segments), FloorTime()
    if (within := within_floors(latest.accuracy, latest.forgetting_by_probe)) is not None:
        floors = floors.after((learned - SEGMENT) / speed, until=0.5 * 86400, within=within)
    return RunResult(
        learner=learner,
        retains=retains,
        summary="a small convolutional network, plain gradient descent",
        seed=0,
        scenario="mnist-to-fashion",
        broker="embedded",
        segments=history.segments,
        probes=list(history.probes),
        R=[list(row) for row in latest.R],
        **latest.scores.model_dump(),
        forgetting_by_probe=dict(latest.forgetting_by_probe),
        samples=SampleCounts(
            received=learned + 12, learned=learned, discarded=learned, dead_lettered=12, lost=0, resident=0
        ),
        dead_letters={"undecodable": 7, "label_out_of_range": 5},
        samples_per_second=speed,
        seconds=learned / speed,
        evaluation_seconds=6.25,
        peak_rss_bytes=612 << 20,
        evaluate_every=EVERY,
        probe_subset=1000,
        evaluations=EvaluationPoint.of(history),
        classes=ClassPoint.of(history),
        switches=SegmentSwitch.of(history),
        throughput=throughput,
        prequential=PrequentialPoint.of(history),
        fading_accuracy=history.prequential.fading,
        chance_accuracy=0.1,
        noise={name: sampling_noise(accuracy, 1000) for name, accuracy in latest.accuracy.items()},
        within_floor=floors.share_within,
        forgetting_budget_left=floors.budget_left,
    )


def demo() -> list[RunResult]:
    """The two learners of the demo, with values like those that were measured."""
    ridge = made_up("ridge", 0.9955, top=(0.989, 0.91), speed=1640, retains="statistics")
    return [
        made_up("finetune", 0.23),
        ridge.model_copy(update={"summary": "recursive ridge regression on fixed features"}),
    ]


def nameless(learner: str, now: float, lost: float) -> RunResult:
    """A run on 9 samples of a stream that names no segments; its other probe, b, was never learned."""
    point = EvaluationPoint(
        samples=9,
        accuracy={"a": 0.5, "b": 0.1},  # of whole probes, with which nothing is compared
        on_subset={"a": now, "b": 0.05},
        full=True,
        visit=0,
        ends_segment=False,
    )
    run = made_up(learner, 0.5, segments=("a", "b"))
    undefined = dict.fromkeys(("acc", "bwt", "fwt", "min_acc", "wc_acc", "anytime_accuracy"))
    return run.model_copy(
        update={
            **undefined,
            "segments": [],
            "switches": [],
            "R": run.R[:1],
            "samples": run.samples.model_copy(update={"learned": 9}),
            "forgetting_by_probe": {"a": lost, "b": 0.4},
            "evaluations": [point],
            "prequential_accuracy": 0.8,
        }
    )


def started() -> RunResult:
    """A run that was stopped before its first evaluation: few scores are defined."""
    empty: dict[str, Any] = {
        "forgetting_by_probe": {},
        "evaluations": [],
        "classes": [],
        "throughput": [],
        "fading_accuracy": None,
        "noise": {},
        "within_floor": None,
        "forgetting_budget_left": None,
        "prequential": [],
        "segments": ["mnist"],
        "switches": [SegmentSwitch(samples=0, segment="mnist")],
    }
    run = demo()[0].model_dump() | dict.fromkeys(SCORES) | empty | {"R": [], "scenario": None}
    return RunResult.model_validate(run)


class Page(HTMLParser):
    """A page as a browser shows it: texts, attributes and open elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        figures: dict[str, dict[str, Any]] = json.loads(self.scripts[0])
        return figures


def report(runs: Sequence[RunResult], tmp_path: Path) -> Page:
    path = tmp_path / "reports" / "report.html"
    write_report(runs, path)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return Page(path)
