"""The report can be rendered for any run, fetches nothing, and is readable in both themes."""

import json
import re
from html import escape
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from lethe.observability.result import ClassPoint, RunResult
from lethe.report import write_report
from lethe.report.figures import PALETTE
from lethe.report.page import SECURITY_POLICY
from tests.support.browsing import PHONE, Visit, brightness
from tests.support.reports import SEGMENT, demo, made_up, report


def test_curves_of_several_learners_are_drawn_on_the_same_axes(tmp_path: Path) -> None:
    runs = demo()
    page = report(runs, tmp_path)
    kinds = (
        "accuracy",
        "forgetting",
        "classes-0",
        "classes-1",
        "levels",
        "changes",
        "prequential",
        "calibration",
        "throughput",
    )
    assert list(page.figures) == [f"{kind}-{place}" for kind in kinds for place in (0, 1)]
    divisions = {attributes.get("id") for tag, attributes in page.tags if tag == "div"}
    assert set(page.figures) <= divisions
    for kind in kinds:
        one, two = (page.figures[f"{kind}-{place}"]["layout"] for place in (0, 1))
        assert one["xaxis"] == two["xaxis"]
        assert one["yaxis"] == two["yaxis"]
    mnist, fashion, _ = page.figures["accuracy-0"]["data"]
    assert mnist["x"] == [point.samples for point in runs[0].evaluations]
    assert fashion["y"] == [point.accuracy["fashion-mnist"] for point in runs[0].evaluations]
    mnist, _ = page.figures["calibration-1"]["data"]
    assert mnist["y"] == [point.ece["mnist"] for point in runs[1].evaluations]
    layout = page.figures["accuracy-0"]["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == [SEGMENT]
    notes = page.figures["prequential-0"]["layout"]["annotations"]
    assert [note["text"] for note in notes] == ["mnist", "fashion-mnist"]


def test_each_class_of_a_probe_has_a_row_in_the_colour_of_the_probe(tmp_path: Path) -> None:
    runs = demo()
    page = report(runs, tmp_path)
    (heat,) = page.figures["classes-1-0"]["data"]
    assert heat["x"] == [point.samples for point in runs[0].classes]
    assert heat["y"] == list(range(10))
    assert [row[-1] for row in heat["z"]] == runs[0].classes[-1].accuracy["fashion-mnist"]
    assert heat["colorscale"][1] == [1, "--p1"]


def test_a_class_without_images_is_a_gap_and_a_run_without_classes_has_no_rows(tmp_path: Path) -> None:
    run = made_up("x", 0.5)
    classes = [ClassPoint(samples=5, full=True, accuracy={"mnist": [0.5, None], "fashion-mnist": []})]
    page = report([run.model_copy(update={"classes": classes})], tmp_path)
    assert page.figures["classes-0-0"]["data"][0]["z"] == [[0.5], [None]]
    assert "classes-1-0" not in page.figures
    old = report([run.model_copy(update={"classes": []})], tmp_path)
    assert not [name for name in old.figures if name.startswith("classes")]


def test_every_score_is_drawn_over_the_stream_and_the_stability_gap_is_shaded(tmp_path: Path) -> None:
    run = demo()[0]
    page = report([run], tmp_path)
    drawn = {
        trace["name"]: trace for kind in ("levels", "changes") for trace in page.figures[f"{kind}-0"]["data"]
    }
    names = ["ACC", "WC-ACC", "Anytime accuracy", "min-ACC", "BWT", "FWT", "WP", "WF", "Forgetting"]
    assert list(drawn) == names
    assert all(name in page.texts for name in names), "the legends name them"
    assert drawn["min-ACC"]["y"] == [point.scores.get("min_acc") for point in run.evaluations]
    assert drawn["min-ACC"]["y"][0] is None, "a gap while it was not defined"
    assert drawn["BWT"]["y"][-1] == run.bwt
    assert [name for name, trace in drawn.items() if "fill" in trace] == ["WC-ACC"], (
        "from ACC, which is before"
    )
    assert page.figures["changes-0"]["layout"]["yaxis"]["range"][0] < drawn["BWT"]["y"][-1] < 0


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
    colours = [trace["line"]["color"] for trace in page.figures["accuracy-0"]["data"] if "mode" in trace]
    assert len(set(colours)) == count


TWENTY = [f"permuted-{n}" for n in range(20)]


def test_the_segments_are_a_bar_below_the_accuracy_in_the_colours_of_their_probes(tmp_path: Path) -> None:
    page = report([made_up("x", 0.5, segments=("mnist", "fashion-mnist", "mnist"))], tmp_path)
    *curves, bar = page.figures["accuracy-0"]["data"]
    assert (bar["base"], bar["x"]) == ([0, SEGMENT, 2 * SEGMENT], [SEGMENT] * 3)
    mnist, fashion = (curve["line"]["color"] for curve in curves)
    assert bar["marker"]["color"] == [mnist, fashion, mnist]
    layout = page.figures["accuracy-0"]["layout"]
    assert layout["yaxis2"]["domain"][1] < layout["yaxis"]["domain"][0]
    assert layout["uniformtext"]["mode"] == "hide", "a name that does not fit"


def test_each_switch_is_one_thin_line_in_every_figure_over_the_stream(tmp_path: Path) -> None:
    page = report([made_up("x", 0.5, segments=("a", "b", "a"))], tmp_path)
    for kind in ("accuracy", "classes-0", "levels", "changes", "prequential", "calibration", "throughput"):
        shapes = page.figures[f"{kind}-0"]["layout"]["shapes"]
        assert [shape["x0"] for shape in shapes] == [SEGMENT, 2 * SEGMENT], kind
        assert {(shape["line"]["color"], shape["line"]["width"]) for shape in shapes} == {("--switch", 1)}


def test_more_probes_than_colours_are_rows_in_the_order_of_the_probes(tmp_path: Path) -> None:
    run = made_up("x", 0.9, segments=TWENTY)
    page = report([run], tmp_path)
    heat, _ = page.figures["accuracy-0"]["data"]
    assert heat["y"] == TWENTY
    assert heat["z"][3] == [point.accuracy["permuted-3"] for point in run.evaluations]
    assert page.figures["accuracy-0"]["layout"]["yaxis"]["autorange"] == "reversed", "the first on top"
    (heat,) = page.figures["calibration-0"]["data"]
    assert heat["z"][3] == [point.ece["permuted-3"] for point in run.evaluations]
    (worst,) = page.figures["classes-0-0"]["data"]
    lowest = [value for value in run.classes[-1].accuracy["permuted-3"] if value is not None]
    assert worst["z"][3][-1] == min(lowest)
    assert [name for name in page.figures if name.startswith("classes")] == ["classes-0-0"]
    assert [a for tag, a in page.tags if a.get("class") == "scale"], "what the colours mean"


def test_the_matrix_of_many_probes_is_compact_and_in_order(tmp_path: Path) -> None:
    page = report([made_up("x", 0.9, segments=TWENTY)], tmp_path)
    (table,) = [a for tag, a in page.tags if tag == "table" and "matrix" in (a.get("class") or "")]
    assert table["class"] == "matrix compact"
    first = page.texts.index("after segment")
    columns = [text for text in page.texts[first:] if text in TWENTY][:20]
    assert columns == TWENTY


def test_skills_not_taught_yet_are_grey_and_never_alarming(tmp_path: Path) -> None:
    page = report([made_up("x", 0.5)], tmp_path)
    cells = [a["class"] or "" for tag, a in page.tags if tag == "td" and "cell" in (a.get("class") or "")]
    untaught = [place for place, style in enumerate(cells) if "untaught" in style]
    assert untaught == [0, 1, 3], "the untrained row, and the second probe after the first segment"


def test_chance_is_a_dashed_line_below_the_accuracy_on_the_stream(tmp_path: Path) -> None:
    run = made_up("x", 0.5)
    chance, _ = report([run], tmp_path).figures["prequential-0"]["data"]
    assert (chance["y"], chance["line"]["dash"]) == ([0.1, 0.1], "dash")
    unknown = report([run.model_copy(update={"chance_accuracy": None})], tmp_path)
    assert len(unknown.figures["prequential-0"]["data"]) == 1


def test_forgetting_is_shown_with_its_noise_and_the_limits_of_the_alerts(tmp_path: Path) -> None:
    run = made_up("x", 0.5)
    shapes = report([run], tmp_path).figures["forgetting-0"]["layout"]["shapes"]
    lines = {shape["line"]["color"]: shape["x0"] for shape in shapes}
    assert lines == {"--soft": run.noise["mnist"], "--pause": 0.05, "--bad": 0.1}


def test_segments_without_room_for_names_are_numbered_and_listed(tmp_path: Path) -> None:
    segments = ("mnist", "fashion-mnist") * 3
    page = report([made_up("x", 0.5, segments=segments)], tmp_path)
    notes = page.figures["prequential-0"]["layout"]["annotations"]
    assert [note["text"] for note in notes] == ["1", "2", "3", "4", "5", "6"]
    on_the_bar = page.figures["accuracy-0"]["layout"]["annotations"]
    assert [note["text"] for note in on_the_bar] == ["1", "2", "3", "4", "5", "6"]
    assert "Segments: 1\N{NO-BREAK SPACE}mnist, 2\N{NO-BREAK SPACE}fashion-mnist" in page.text


def test_the_switches_of_a_long_stream_have_no_labels_but_on_the_bar(tmp_path: Path) -> None:
    page = report([made_up("x", 0.5, segments=("mnist", "fashion-mnist") * 7)], tmp_path)
    layout = page.figures["prequential-0"]["layout"]
    assert len(layout["shapes"]) == 13
    assert layout["annotations"] == []
    assert page.figures["accuracy-0"]["layout"]["annotations"][-1]["text"] == "14"


def test_at_most_forty_segments_of_a_long_stream_are_numbered(tmp_path: Path) -> None:
    page = report([made_up("x", 0.5, segments=("mnist", "fashion-mnist") * 50)], tmp_path)
    on_the_bar = page.figures["accuracy-0"]["layout"]["annotations"]
    assert [note["text"] for note in on_the_bar] == [str(visit) for visit in range(1, 101, 3)]


def test_a_value_holds_until_the_next_evaluation(tmp_path: Path) -> None:
    figures = report([made_up("x", 0.5)], tmp_path).figures
    for kind in ("accuracy", "calibration", "levels", "changes"):
        lines = [trace["line"] for trace in figures[f"{kind}-0"]["data"] if trace["type"] == "scatter"]
        assert {line["shape"] for line in lines} == {"hv"}, kind
    assert figures["prequential-0"]["data"][-1]["line"]["shape"] == "linear", "measured with every batch"


def test_a_run_without_calibration_and_classes_is_drawn(tmp_path: Path) -> None:
    run = json.loads(made_up("x", 0.5).model_dump_json())
    for name in ("windowed_forgetting", "windowed_plasticity", "ece", "window", "classes"):
        del run[name]
    for point in run["evaluations"]:
        del point["on_subset"], point["ece"], point["scores"]
    page = report([RunResult.model_validate(run)], tmp_path)
    assert not [
        name for name in page.figures if name.startswith(("classes", "calibration", "levels", "changes"))
    ]
    assert page.texts.count("Not defined in this run.") == 5
    assert "accuracy-0" in page.figures


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    page = report(demo(), tmp_path)
    for _, attributes in page.tags:
        assert not {"src", "href", "action", "data", "poster", "srcset"} & set(attributes)
    style = page.source[page.source.index("<style>") : page.source.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policies = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [SECURITY_POLICY]
    assert "http" not in SECURITY_POLICY
    assert "connect-src" not in SECURITY_POLICY, "default-src 'none' forbids every connection"
    assert sum("plotly.js v" in script for script in page.scripts) == 1, "inlined, once"


def test_no_name_becomes_markup(tmp_path: Path) -> None:
    evil = '</script><img src=x onerror="alert(1)">&\' {{ 7 * 7 }} {% if %}{# '
    segments = (evil, "b")
    run = made_up("x", 0.5, segments=segments).model_copy(
        update={"learner": evil, "summary": evil, "scenario": evil, "broker": evil, "dead_letters": {evil: 1}}
    )
    page = report([run, run], tmp_path)
    assert page.open == []
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert len(page.scripts) == 4
    assert evil in page.text, "nor is it read as a template"
    # Plotly interprets text as HTML
    assert page.figures["accuracy-0"]["data"][0]["name"] == escape(evil)
    assert escape(evil) in page.figures["forgetting-0"]["data"][0]["y"]


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_is_drawn_in_the_readers_theme_and_fits_a_phone(
    browser: Browser, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    write_report(demo(), tmp_path / "report.html")
    page = browser.new_page(viewport=PHONE, color_scheme=scheme)
    try:
        visit = Visit(page, (tmp_path / "report.html").as_uri())
        expect(page.locator(".plot:not(:has(.main-svg))")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        paper, tick = visit.colour("body", "background-color"), visit.colour(".xtick text", "fill")
        assert (brightness(paper) > brightness(tick)) == (scheme == "light")
        assert (visit.strangers, visit.complaints) == ([], [])
    finally:
        page.close()


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
