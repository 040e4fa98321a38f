"""Draws the pictures of the pages as inline SVG in the theme's own colours, light and dark."""

from dataclasses import dataclass, field, replace
from html import escape
from math import log10
from pathlib import Path
from typing import Final

from lethe.experiments.bench.ranks.result import RanksResult
from lethe.experiments.bench.ranks.simulation import Link, counts_up_to, simulate

__all__ = ["PICTURES"]

INK, PALE = "var(--md-default-fg-color)", "var(--md-default-fg-color--lighter)"
MOST_RANKS: Final = 1000
FILL, ACCENT = "var(--md-code-bg-color)", "var(--md-typeset-a-color)"


@dataclass
class Drawing:
    """An SVG of ``width`` × ``height`` pixels; ``about`` describes it to those who cannot see it."""

    width: int
    height: int
    about: str
    items: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, text: str, *, anchor: str = "middle", size: int = 13, colour: str = INK
    ) -> None:
        """Write one line, its baseline at ``y``."""
        style = f'font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
        self.items.append(f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, *lines: str, colour: str = INK) -> None:
        """Draw a rectangle with centred lines of text."""
        self.items.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"'
            f' fill="{FILL}" stroke="{colour}"/>'
        )
        for number, line in enumerate(lines):
            middle = y + height / 2 + 4.5 + 16 * (number - (len(lines) - 1) / 2)
            self.text(x + width / 2, middle, line)

    def frame(self, x: float, y: float, width: float, height: float, title: str) -> None:
        """Draw a dashed rectangle with a title above it: a process."""
        self.items.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" fill="none"'
            f' stroke="{INK}" stroke-dasharray="5 4" opacity=".6"/>'
        )
        self.text(x + width / 2, y - 8, title, size=12)

    def line(
        self, *points: tuple[float, float], colour: str = INK, arrow: bool = False, wide: float = 1.5
    ) -> None:
        """Draw a polyline, with an arrow head at its end if ``arrow``."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.items.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{wide:g}"/>'
        )
        if arrow:
            (x0, y0), (x1, y1) = points[-2:]
            dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
            back, side = (x1 - 8 * dx, y1 - 8 * dy), (4 * dy, 4 * dx)
            corners = [
                (x1, y1),
                (back[0] - side[0], back[1] - side[1]),
                (back[0] + side[0], back[1] + side[1]),
            ]
            head = " ".join(f"{x:g},{y:g}" for x, y in corners)
            self.items.append(f'<polygon points="{head}" fill="{colour}"/>')

    def arrow(self, *points: tuple[float, float], colour: str = INK) -> None:
        """Draw a polyline of horizontal and vertical pieces with an arrow head."""
        self.line(*points, colour=colour, arrow=True)

    def svg(self) -> str:
        """Return the drawing in one line, as Markdown passes HTML through."""
        head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img"'
        style = f'style="max-width:{self.width}px" font-family="inherit"'
        items = "".join(self.items)
        picture = f'<svg {head} {style} aria-label="{escape(self.about)}">{items}</svg>'
        return f'<div class="picture">{picture}</div>'


def _path() -> str:
    draw = Drawing(880, 250, "From the producer through topic and reader process to the learning process.")
    draw.box(5, 40, 90, 46, "producer")
    draw.arrow((95, 63), (125, 63))
    draw.box(125, 40, 100, 46, "Kafka topic")
    draw.arrow((225, 63), (265, 63))
    draw.frame(255, 28, 190, 70, "reader process")
    draw.box(265, 40, 75, 46, "poll")
    draw.arrow((340, 63), (360, 63))
    draw.box(360, 40, 75, 46, "decode")
    draw.arrow((435, 63), (475, 63))
    draw.box(475, 40, 80, 46, "slot", colour=ACCENT)
    draw.text(515, 20, "shared memory", size=12)
    draw.arrow((555, 63), (595, 63))
    draw.frame(585, 28, 290, 70, "learning process")
    draw.box(595, 40, 75, 46, "predict")
    draw.arrow((670, 63), (690, 63))
    draw.box(690, 40, 75, 46, "learn")
    draw.arrow((765, 63), (785, 63))
    draw.box(785, 40, 80, 46, "zero slot", colour=ACCENT)
    draw.arrow((397, 86), (397, 140))
    draw.box(342, 140, 110, 46, "dead letters")
    draw.text(405, 125, "malformed", anchor="start", size=12)
    draw.arrow((632, 86), (632, 140))
    draw.box(560, 140, 135, 46, "metrics, run", "state, log")
    draw.text(640, 125, "events", anchor="start", size=12)
    draw.arrow((757, 86), (757, 140))
    draw.box(710, 140, 130, 46, "checkpoint with", "positions")
    draw.arrow((775, 186), (775, 225), (175, 225), (175, 86))
    draw.text(470, 218, "purge, once a checkpoint is on the disk (policy)", size=12)
    return draw.svg()


def _stream() -> str:
    draw = Drawing(880, 290, "Two segments, the accuracy on two probes, and a detected boundary.")
    left, switch, right, detected = 110.0, 470.0, 850.0, 500.0
    draw.text(100, 45, "stream", anchor="end")
    draw.box(left, 25, switch - left, 32, "segment mnist")
    draw.box(switch, 25, right - switch, 32, "segment fashion-mnist")
    draw.line((switch, 15), (switch, 235), colour=PALE)
    draw.line((detected, 62), (detected, 235), colour=ACCENT)
    draw.text(
        detected + 8,
        76,
        "boundary, detected some samples after the switch",
        anchor="start",
        size=12,
        colour=ACCENT,
    )
    draw.line((left, 90), (left, 235), (right, 235))
    draw.text(100, 105, "accuracy", anchor="end", size=12)
    for tick in range(11):
        x = left + (right - left) * tick / 10
        draw.line((x, 231), (x, 239))
    draw.text(left, 255, "evaluations of every probe, at a fixed cadence", anchor="start", size=12)
    mnist = [
        (110, 225),
        (146, 125),
        (218, 107),
        (300, 102),
        (470, 100),
        (506, 150),
        (578, 180),
        (690, 196),
        (850, 202),
    ]
    fashion = [(110, 225), (218, 222), (470, 220), (506, 150), (578, 125), (690, 116), (850, 112)]
    draw.line(*[(float(x), float(y)) for x, y in mnist], wide=2.5)
    draw.line(*[(float(x), float(y)) for x, y in fashion], colour=ACCENT, wide=2.5)
    draw.text(300, 120, "probe mnist", size=12)
    draw.text(300, 212, "probe fashion-mnist", size=12, colour=ACCENT)
    draw.text(845, 192, "forgotten", anchor="end", size=12)
    for x, row in ((left, "row 0 of R"), (switch, "row 1 of R"), (right, "row 2 of R")):
        draw.text(min(max(x, 150), 815), 280, row, size=12)
    return draw.svg()


def _recovery() -> str:
    draw = Drawing(880, 215, "After a crash, the records since the newest checkpoint are learned again.")
    draw.text(95, 60, "topic", anchor="end")
    draw.box(110, 40, 130, 32, "purged", colour=PALE)
    draw.box(240, 40, 240, 32, "learned")
    draw.box(480, 40, 150, 32, "learned, then lost", colour=ACCENT)
    draw.box(630, 40, 220, 32, "not read yet")
    for x, name in ((240, "checkpoint 1"), (480, "checkpoint 2")):
        draw.line((x, 30), (x, 100))
        draw.text(x, 115, name, size=12)
    draw.text(240, 20, "oldest: purge up to here (policy)", size=12)
    draw.line((630, 30), (630, 100), colour=ACCENT)
    draw.text(630, 20, "crash", size=12, colour=ACCENT)
    draw.arrow((630, 150), (480, 150), colour=ACCENT)
    draw.text(640, 154, "restart: weights, counts and position", anchor="start", size=12)
    draw.text(640, 170, "of checkpoint 2", anchor="start", size=12)
    draw.arrow((480, 195), (850, 195))
    draw.text(470, 199, "learned again, each record once", anchor="end", size=12)
    return draw.svg()


def _ranks() -> str:
    """Draw the simulation of what was measured with 2 ranks, of which the page shows the commands."""
    measured = RanksResult.read(Path(__file__).parent / "ranks.json").fit()
    evaluated, solved = measured.evaluated_every, measured.moved_every or measured.evaluated_every
    counts = list(counts_up_to(MOST_RANKS))
    kept = [simulate(measured, ranks, Link()).efficiency for ranks in counts]
    rarer = [
        simulate(
            replace(measured, evaluated_every=evaluated * ranks, moved_every=solved * ranks), ranks, Link()
        ).efficiency
        for ranks in counts
    ]
    draw = Drawing(880, 300, "The efficiency of up to 1,000 simulated ranks, with two kinds of intervals.")
    left, right, top, bottom = 110.0, 850.0, 30.0, 240.0
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - (bottom - top) * share
        draw.line((left, y), (right, y), colour=PALE, wide=1)
        draw.text(left - 10, y + 4, f"{share:.0%}", anchor="end", size=12)
    places = [left + (right - left) * log10(ranks) / log10(MOST_RANKS) for ranks in counts]
    for x, ranks in zip(places, counts, strict=True):
        draw.text(x, bottom + 20, f"{ranks:,}", size=12)
    draw.text((left + right) / 2, bottom + 45, "ranks", size=12)
    for curve, colour in ((kept, INK), (rarer, ACCENT)):
        points = [(x, bottom - (bottom - top) * min(1.0, y)) for x, y in zip(places, curve, strict=True)]
        draw.line(*points, colour=colour, wide=2.5)
    draw.text(right, top - 12, "intervals in proportion to the ranks", anchor="end", size=12, colour=ACCENT)
    draw.text(left, top - 12, "intervals as they are", anchor="start", size=12)
    return draw.svg()


PICTURES: Final = {"path": _path(), "stream": _stream(), "recovery": _recovery(), "ranks": _ranks()}
"""Each picture by the name that ``<!-- picture: NAME -->`` asks for."""
