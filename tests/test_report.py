"""A run survives its file, and the report says what the numbers say, to everyone, offline."""

import json
import math
import random
import re
from collections.abc import Sequence
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidFile
from service.evaluation.history import History
from service.events import Evaluated
from service.report import write_report
from service.report.figures import PALETTE
from service.report.page import POLICY
from service.report.words import headline, number, percent, points, seconds
from service.result import (
    EvaluationPoint,
    PrequentialPoint,
    RunResult,
    SampleCounts,
    SegmentSwitch,
    ThroughputPoint,
)

EVERY = 2000
SEGMENT = 60_000


def made_up(
    learner: str,
    keeps: float,
    *,
    segments: Sequence[str] = ("mnist", "fashion-mnist"),
    top: Sequence[float] = (0.977, 0.872),
    speed: float = 5200.0,
    retains: str = "nothing",
) -> RunResult:
    """A run as the loop makes it: a skill rises while taught; afterwards a share ``keeps`` of it stays."""
    noise = random.Random(learner)
    names = list(dict.fromkeys(segments))
    peak = {name: top[place % len(top)] for place, name in enumerate(names)}
    skill = dict.fromkeys(names, 0.1)
    history = History(names)
    throughput = []

    def measure(samples: int, ends: bool) -> None:
        shown = {n: min(1.0, max(0.0, a if ends else a + noise.gauss(0, 0.006))) for n, a in skill.items()}
        visit = len(history.segments)
        segment = history.segments[-1] if visit else None
        final.append(
            history.evaluated(Evaluated(samples, shown, ends or visit == 0, visit, segment, ends, 0.1))
        )

    final = [history.evaluated(Evaluated(0, skill, True, 0, None, False, 0.1))]
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
            throughput.append(
                ThroughputPoint(
                    samples=visit * SEGMENT + done,
                    samples_per_second=speed * (1 + 0.04 * noise.gauss(0, 1)),
                )
            )
            measure(visit * SEGMENT + done, step == SEGMENT // EVERY)
    scores, learned = final[-1].scores, SEGMENT * len(segments)
    return RunResult(
        learner=learner,
        retains=retains,
        summary="a small convolutional network, plain gradient descent",
        seed=0,
        scenario="mnist-to-fashion",
        broker="embedded",
        segments=history.segments,
        probes=names,
        R=[list(row) for row in final[-1].R],
        acc=scores.acc,
        bwt=scores.bwt,
        fwt=scores.fwt,
        forgetting=scores.forgetting,
        forgetting_by_probe=dict(scores.forgetting_by_probe),
        min_acc=scores.min_acc,
        wc_acc=scores.wc_acc,
        anytime_accuracy=scores.anytime_accuracy,
        prequential_accuracy=scores.prequential_accuracy,
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
        switches=SegmentSwitch.of(history),
        throughput=throughput,
        prequential=PrequentialPoint.of(history),
    )


def demo() -> list[RunResult]:
    """The two learners of the demo, with values like those that were measured."""
    ridge = made_up("ridge", 0.9955, top=(0.989, 0.91), speed=1640, retains="statistics")
    return [
        made_up("finetune", 0.23),
        ridge.model_copy(update={"summary": "recursive ridge regression on fixed features"}),
    ]


def started() -> RunResult:
    """A run that was stopped before its first segment ended: hardly a score is defined."""
    undefined = [
        "acc",
        "bwt",
        "fwt",
        "forgetting",
        "min_acc",
        "wc_acc",
        "anytime_accuracy",
        "prequential_accuracy",
    ]
    empty: dict[str, Any] = {
        "forgetting_by_probe": {},
        "evaluations": [],
        "throughput": [],
        "prequential": [],
        "switches": [],
    }
    run = (
        demo()[0].model_dump()
        | dict.fromkeys(undefined)
        | empty
        | {"R": [], "segments": [], "scenario": None}
    )
    return RunResult.model_validate(run)


class Page(HTMLParser):
    """What a browser sees: texts, attributes and the elements that are open."""

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
        if tag != "meta":
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


def test_a_run_comes_back_from_its_file_unchanged(tmp_path: Path) -> None:
    run = demo()[0]
    run.write(tmp_path / "finetune" / "run.json")
    assert RunResult.read(tmp_path / "finetune" / "run.json") == run
    assert [file.name for file in (tmp_path / "finetune").iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", [None, "", "{}", '{"learner": "ridge"}', "[1, 2"])
def test_a_file_that_is_no_run_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidFile, match=re.escape(f"{path} is not a run")):
        RunResult.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"R": [[0.1, 0.1], [0.9]]}, "every row has 2 accuracies"),
        ({"R": [[0.1, 0.1]] * 4}, "4 rows, 2 segments"),
        ({"forgetting_by_probe": {"cifar": 0.5}}, "cifar measured, but not listed"),
        ({"bwt": float("nan")}, "finite number"),
        ({"mood": "good"}, "mood"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunResult.model_validate(demo()[0].model_dump() | change)


def test_the_headline_says_who_forgot_what() -> None:
    finetune, ridge = (headline(run) for run in demo())
    assert finetune.verdict == "finetune forgot mnist"
    assert finetune.numbers == f"{percent(0.977)} → {percent(0.3017)}"
    assert finetune.circumstance == "while learning fashion-mnist"
    assert ridge.verdict == "ridge kept mnist"


@pytest.mark.parametrize(
    ("lost", "verdict"),
    [
        ({"mnist": 0.5, "fashion-mnist": 0.1}, "x forgot mnist and 1 more"),
        ({"mnist": 0.05, "fashion-mnist": 0.01}, "x lost some of mnist"),
        ({"mnist": -0.02, "fashion-mnist": 0.01}, "x kept fashion-mnist and 1 more"),
    ],
)
def test_the_verdict_follows_the_skill_that_lost_most(lost: dict[str, float], verdict: str) -> None:
    run = made_up("x", 0.5, segments=("mnist", "fashion-mnist", "mnist"))
    assert headline(run.model_copy(update={"forgetting_by_probe": lost})).verdict == verdict


def test_numbers_are_written_for_people() -> None:
    assert [percent(0.9769), percent(None), points(-0.676), points(0.004), points(-0.0001), points(None)] == [
        "97.7\u202f%",
        "–",
        "−67.6",
        "+0.4",
        "0.0",
        "–",
    ]
    assert [number(1234567.2), seconds(4.21), seconds(205)] == [
        "1\u202f234\u202f567",
        "4.2\u202fs",
        "3\u202fmin 25\u202fs",
    ]


def test_every_number_of_every_run_is_on_the_page(tmp_path: Path) -> None:
    runs = demo()
    text = report(runs, tmp_path).text
    for run in runs:
        for score in (run.acc, run.min_acc, run.wc_acc, run.anytime_accuracy, run.prequential_accuracy):
            assert percent(score) in text
        for difference in (run.bwt, run.fwt, run.forgetting):
            assert points(difference) in text
        for accuracy in (value for row in run.R for value in row):
            assert f"{100 * accuracy:.1f}" in text
        for count in (*run.samples.model_dump().values(), *run.dead_letters.values(), run.evaluate_every):
            assert number(count) in text
        assert number(run.samples_per_second) in text
        assert seconds(run.seconds) in text
        assert run.summary in text
    for name in ("ACC", "BWT", "FWT", "Forgetting", "min-ACC", "WC-ACC", "WF10", "WP10"):
        assert name in text
    assert "Σ_{j<T} (R[T,j] − R[j,j])" in text, "a formula loses nothing to its angle brackets"


def test_the_curves_are_drawn_side_by_side_on_the_same_axes(tmp_path: Path) -> None:
    runs = demo()
    page = report(runs, tmp_path)
    assert list(page.figures) == [
        f"{kind}-{place}"
        for kind in ("accuracy", "forgetting", "prequential", "throughput")
        for place in (0, 1)
    ]
    divisions = {attributes.get("id") for tag, attributes in page.tags if tag == "div"}
    assert set(page.figures) <= divisions
    for kind in ("accuracy", "forgetting", "prequential", "throughput"):
        one, two = (page.figures[f"{kind}-{place}"]["layout"] for place in (0, 1))
        assert one["xaxis"] == two["xaxis"]
        assert one["yaxis"] == two["yaxis"]
    mnist, fashion = page.figures["accuracy-0"]["data"]
    assert mnist["x"] == [point.samples for point in runs[0].evaluations]
    assert fashion["y"] == [point.accuracy["fashion-mnist"] for point in runs[0].evaluations]
    layout = page.figures["accuracy-0"]["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == [SEGMENT]
    assert [note["text"] for note in layout["annotations"]] == ["mnist", "fashion-mnist"]


@pytest.mark.parametrize("learners", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_any_number_of_learners_and_segments_makes_a_well_formed_page(
    tmp_path: Path, learners: int, count: int
) -> None:
    segments = [f"rotated-by-{90 * n // count}" for n in range(count)]
    page = report([made_up(f"learner-{n}", 0.5, segments=segments) for n in range(learners)], tmp_path)
    assert page.open == []
    assert page.text.count("rotated-by-0") >= learners
    figures = [name for name in page.figures if name.startswith("accuracy")]
    assert len(figures) == learners
    colours = [trace["line"]["color"] for trace in page.figures["accuracy-0"]["data"]]
    assert len(set(colours)) == count


def test_a_ninth_probe_is_told_apart_by_its_dashes(tmp_path: Path) -> None:
    page = report([made_up("x", 0.5, segments=[f"permuted-{n}" for n in range(9)])], tmp_path)
    lines = {(t["line"]["color"], t["line"]["dash"]) for t in page.figures["accuracy-0"]["data"]}
    assert len(lines) == 9
    dashes = [a["class"] for tag, a in page.tags if tag == "i" and a.get("class")]
    assert dashes == ["dashed"], "the legend shows them too"


def test_segments_without_room_for_names_are_numbered_and_listed(tmp_path: Path) -> None:
    segments = ("mnist", "fashion-mnist") * 3
    page = report([made_up("x", 0.5, segments=segments)], tmp_path)
    notes = page.figures["accuracy-0"]["layout"]["annotations"]
    assert [note["text"] for note in notes] == ["1", "2", "3", "4", "5", "6"]
    assert "Segments: 1\N{NO-BREAK SPACE}mnist, 2\N{NO-BREAK SPACE}fashion-mnist" in page.text


def test_a_long_stream_has_lines_without_labels(tmp_path: Path) -> None:
    page = report([made_up("x", 0.5, segments=("mnist", "fashion-mnist") * 7)], tmp_path)
    layout = page.figures["accuracy-0"]["layout"]
    assert len(layout["shapes"]) == 13
    assert layout["annotations"] == []


def test_scores_that_are_not_defined_are_said_to_be_so(tmp_path: Path) -> None:
    page = report([started(), demo()[1]], tmp_path)
    assert "finetune finished no segment" in page.text
    assert page.texts.count("–") >= 12
    assert page.texts.count("Not defined in this run.") == 5
    assert [name for name in page.figures if name.endswith("-0")] == []


def test_records_that_do_not_add_up_are_pointed_out(tmp_path: Path) -> None:
    run = demo()[0]
    short = run.samples.model_copy(update={"learned": run.samples.learned - 30})
    assert "no, off by 30" in report([run.model_copy(update={"samples": short})], tmp_path).text


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    page = report(demo(), tmp_path)
    for _, attributes in page.tags:
        assert not {"src", "href", "action", "data", "poster", "srcset"} & set(attributes)
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [POLICY]
    assert "http" not in POLICY
    assert "connect-src" not in POLICY, "default-src 'none' forbids every connection"
    assert sum("plotly.js v" in script for script in page.scripts) == 1, "inlined, once"


def test_no_name_becomes_markup(tmp_path: Path) -> None:
    evil = '</script><img src=x onerror="alert(1)">&'
    segments = (evil, "b")
    run = made_up("x", 0.5, segments=segments).model_copy(
        update={"learner": evil, "summary": evil, "scenario": evil, "broker": evil, "dead_letters": {evil: 1}}
    )
    page = report([run, run], tmp_path)
    assert page.open == []
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert len(page.scripts) == 3
    assert evil in page.text
    # Plotly reads its texts as HTML as well
    assert page.figures["accuracy-0"]["data"][0]["name"] == escape(evil)
    assert escape(evil) in page.figures["forgetting-0"]["data"][0]["y"]


def test_there_is_no_report_without_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no runs"):
        write_report([], tmp_path / "report.html")


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_can_be_read_in_both_themes(tmp_path: Path) -> None:
    style = report(demo(), tmp_path).source
    light, dark = (dict(re.findall(r"(--[\w-]+): (#\w{6})", part)) for part in style.split("@media", 2)[:2])
    assert set(light) == set(dark)
    for theme in (light, dark):
        for text in ("--ink", "--soft"):
            assert contrast(theme[text], theme["--paper"]) >= 4.5
            assert contrast(theme[text], theme["--card"]) >= 4.5
        assert contrast(theme["--ink"], theme["--heat-full"]) >= 4.5
        for place in range(PALETTE):
            assert contrast(theme[f"--p{place}"], theme["--paper"]) >= 3
        assert len({theme[f"--p{place}"] for place in range(PALETTE)}) == PALETTE
