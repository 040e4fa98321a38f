"""Writes a page of sections with figures and tables as one HTML file that needs no network."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lethe.files.html.templates import render
from lethe.report.figures import Figure, LegendEntry
from lethe.report.page import SECURITY_POLICY
from lethe.report.plotly_script import plotly_script

__all__ = ["Panel", "Section", "Table", "write_sections"]


@dataclass(frozen=True, slots=True)
class Panel:
    """A figure with its caption."""

    caption: str
    figure: Figure
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text; the first cell of each row is its heading."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page."""

    title: str
    lead: str
    panels: Sequence[Panel] = ()
    table: Table | None = None
    legend: Sequence[LegendEntry] = ()
    width: int = 21
    """Least width of a panel, in rem."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A panel with the id of its place in the document."""

    id: str
    caption: str
    note: str


@dataclass(frozen=True, slots=True)
class _PlacedSection:
    title: str
    lead: str
    panels: Sequence[_Placed]
    table: Table | None
    legend: Sequence[LegendEntry]
    width: int = field(default=21)


def write_sections(
    path: Path,
    *,
    title: str,
    kicker: str,
    headlines: Sequence[str],
    lead: str,
    colours: Sequence[LegendEntry],
    sections: Sequence[Section],
) -> None:
    """Write a page of sections."""
    drawn: dict[str, Figure] = {}
    placed = []
    for place, section in enumerate(sections):
        panels = []
        for nth, panel in enumerate(section.panels):
            name = f"figure-{place}-{nth}"
            drawn[name] = panel.figure
            panels.append(_Placed(name, panel.caption, panel.note))
        placed.append(
            _PlacedSection(section.title, section.lead, panels, section.table, section.legend, section.width)
        )
    document = render(
        "experiments/anatomy/anatomy.html.jinja",
        security_policy=SECURITY_POLICY,
        title=title,
        kicker=kicker,
        headlines=headlines,
        lead=lead,
        colours=colours,
        sections=placed,
        figures=drawn,
        plotly=plotly_script(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document, encoding="utf-8")
