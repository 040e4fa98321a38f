"""The frame of every dashboard: variables, marks of alerts and restarts, vital signs and firing alerts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.decisions import decision
from deploy.grafana.panels import (
    BAD,
    DATASOURCE,
    DOUBTFUL,
    GOOD,
    NEUTRAL,
    WIDTH,
    Column,
    Limits,
    answer,
    grid,
    of_service,
)

__all__ = [
    "ALIVE",
    "BUDGET",
    "CHOSEN",
    "FORGETTING",
    "FORGOTTEN",
    "KEEPING",
    "KEEPING_UP",
    "LAST_TURN",
    "LEARNING",
    "LEFT",
    "LOST",
    "STALLED",
    "TALL",
    "UNSURE",
    "Row",
    "alerts",
    "frame",
    "vital_signs",
]

CHOSEN: Final = 'service=~"$service"'
"""Label matcher for the services selected at the top of the dashboard."""
LAST_TURN: Final = (
    f"(lethe_last_turn_timestamp_seconds{{{CHOSEN}}} > 0"
    f' or process_start_time_seconds{{job="lethe", {CHOSEN}}})'
)
"""Time of the training loop's last iteration; before the first one, the start of the process."""
FORGOTTEN: Final = Limits(decision("forgetting_ratio") / 2, decision("forgetting_ratio"))
"""Limits of a loss of accuracy: red from the alerts' threshold on."""
UNSURE: Final = Limits(0.5, 0.2, below=True)
"""Limits of the accuracy on the stream: red near the chance of ten classes, 0.1."""
LEFT: Final = Limits(0.5, 0.0, below=True)
"""Limits of the budget that is left: red once it is spent."""
LOST: Final = f"(lethe_forgetting_ratio{{{CHOSEN}}} and lethe:probe_accuracy_floor:ratio{{{CHOSEN}}})"
"""How far each old probe is below its best. One that was never learned has no floor and does not count."""
FORGETTING: Final = f"max by (service) {LOST}"
LEARNING: Final = f'max by (service) (lethe_prequential_accuracy_ratio{{kind="fading", {CHOSEN}}})'
BUDGET: Final = f"max by (service) (lethe:forgetting_budget_left:ratio30d{{{CHOSEN}}})"
WAITING: Final = 1000
"""Records that wait while nothing is learned, as in the alert LetheLearnerStalled: fewer may be a batch that
is not full."""
KEEPING_UP: Final = (
    f"max by (service) (lethe:lag:seconds{{{CHOSEN}}} < +Inf"
    f" or (lethe:lag:seconds{{{CHOSEN}}} and lethe:lag:records{{{CHOSEN}}} > {WAITING})"
    f" or NaN * lethe:lag:records{{{CHOSEN}}})"
)
KEEPING: Final = f"sum by (service) (lethe_samples_resident{{{CHOSEN}}} + lethe_samples_kept{{{CHOSEN}}})"
ALIVE: Final = f'min by (service) ((time() - {LAST_TURN} < bool 120) or up{{job="lethe", {CHOSEN}}})'
STALLED: Final = {"Infinity": ("stalled", BAD), "NaN": ("idle", NEUTRAL)}
TAG: Final = "lethe"
STEP: Final = 15
"""Seconds between two points at which the marks are looked for: each is then found once."""
TALL: Final = 8
"""Height of the tables on the first screen: six lines without scrolling."""
SHOWN: Final = 3
"""Services in a vital sign: the worst ones, so that it can be read with any number of them."""


@dataclass(frozen=True)
class Row:
    """Panels under a title, from left to right; those of a tuple are below each other.

    ``repeat`` names a variable, one row for each of its values.
    """

    title: str
    panels: Sequence[Builder[model.Panel] | tuple[Builder[model.Panel], ...]]
    collapsed: bool = False
    repeat: str | None = None


class _Marks(model.AnnotationQuery):
    """Annotations from Prometheus; their text fields are not part of Grafana's schema."""

    texts: tuple[str, str] = ("", "")

    def to_json(self) -> dict[str, object]:
        title, text = self.texts
        return super().to_json() | {"titleFormat": title, "textFormat": text, "step": f"{STEP}s"}


class _MarksBuilder(Builder[model.AnnotationQuery]):
    def __init__(self, name: str, colour: str, expr: str, title: str, text: str) -> None:
        self._name, self._colour, self._expr, self._texts = name, colour, expr, (title, text)

    def build(self) -> model.AnnotationQuery:
        marks = _Marks(name=self._name, datasource=DATASOURCE, icon_color=self._colour, expr=self._expr)
        marks.texts = self._texts
        return marks


def frame(uid: str, title: str, description: str, rows: Sequence[Row]) -> model.Dashboard:
    """Return a dashboard of ``rows``, of which those without a title have no heading."""
    firing = f'ALERTS{{alertstate="firing", severity="critical", {CHOSEN}}}'
    first = "max by (alertname, service)"  # a mark for each probe would hide the curves
    started = f'process_start_time_seconds{{job="lethe", {CHOSEN}}}'
    board = (
        build.Dashboard(f"Lethe: {title}")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time("now-30m", "now")
        .refresh("15s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(_datasource())
        .with_variable(_service())
        .with_variable(_runbook())
        .annotation(
            _MarksBuilder(
                "Alerts",
                "red",
                f"{first} ({firing}) unless {first} ({firing} offset {STEP}s)",
                "{{alertname}}",
                "{{service}}",
            )
        )
        .annotation(
            _MarksBuilder(
                "Restarts",
                "yellow",
                f"{started} > last_over_time({started}[1h] offset {STEP}s)",
                "Restart",
                "{{service}}",
            )
        )
        .link(
            build.DashboardLink("Lethe")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    built = board.build()
    built.panels, below = [], 0
    for row in rows:
        heading = model.RowPanel(row.collapsed, row.title, id_val=0, panels=[], repeat=row.repeat)
        if row.title:
            heading.grid_pos = model.GridPos(x=0, y=below, w=WIDTH, h=1)
            built.panels.append(heading)
            below += 1
        placed, end = _placed(row, below)
        (heading.panels if row.collapsed else built.panels).extend(placed)
        below = below if row.collapsed else end
    every = [one for panel in built.panels for one in (panel, *getattr(panel, "panels", []))]
    charts: list[int] = []
    alike = set(map(id, _not_repeated(built.panels)))
    for number, panel in enumerate(every, start=1):
        panel.id_val = number  # links to single panels must not change
        if panel.type_val == "timeseries" and id(panel) in alike:
            charts.append(number)
    if built.annotations is not None:
        for marks in built.annotations.list_val or []:  # one service's mark in another's panel would mislead
            marks.filter_val = model.AnnotationPanelFilter(exclude=False, ids=charts)
    return built


def _not_repeated(placed: Sequence[model.Panel | model.RowPanel]) -> Iterator[model.Panel]:
    repeated = False
    for panel in placed:
        if isinstance(panel, model.RowPanel):
            repeated = panel.repeat is not None
            yield from (one for one in panel.panels if one.repeat is None)
        elif not repeated and panel.repeat is None:
            yield panel


def _placed(row: Row, top: int) -> tuple[list[model.Panel], int]:
    """Return the panels of ``row`` with their places from line ``top`` on, and the line below them."""
    placed: list[model.Panel] = []
    x, below = 0, top
    for column in row.panels:
        y, width = top, 0
        for panel in (part.build() for part in (column if isinstance(column, tuple) else (column,))):
            panel.grid_pos = panel.grid_pos or model.GridPos()
            width = panel.grid_pos.w
            if y == top and x + width > WIDTH:
                x, y, top = 0, below, below
            panel.grid_pos.x, panel.grid_pos.y = x, y
            y += panel.grid_pos.h
            below = max(below, y)
            placed.append(panel)
        x += width
    return placed, below


def _datasource() -> build.DatasourceVariable:
    """Return the data source variable; its default is the Prometheus of compose.yaml."""
    return (
        build.DatasourceVariable("datasource")
        .label("Prometheus")
        .description("Data source of the metrics.")
        .type("prometheus")
        .current(model.VariableOption(selected=True, text="Prometheus", value="lethe-prometheus"))
    )


def _service() -> build.QueryVariable:
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        build.QueryVariable("service")
        .label("Service")
        .description("Services to show; some rows repeat for each.")
        .datasource(DATASOURCE)
        .query("label_values(lethe_build_info, service)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(everything)
    )


def _runbook() -> build.TextBoxVariable:
    """Return the address that alerts link to: where `make docs` serves its page Operations."""
    address = "http://127.0.0.1:8000/runbook.html"
    return (
        build.TextBoxVariable("runbook")
        .label("Runbook")
        .description("Address of the documentation's page Operations, to which alerts link.")
        .default_value(address)
        .current(model.VariableOption(selected=True, text=address, value=address))
    )


def alerts(span: int = WIDTH) -> Builder[model.Panel]:
    """Return the table of firing alerts, the critical ones first; one line for all probes of a service."""
    return grid(
        "Firing alerts",
        "The critical ones first, with how often each fires for a service: once for each probe that is "
        "forgotten. An alert's name leads to its section of the runbook, its service to the dashboard "
        "Forgetting.",
        [f'count by (severity, alertname, service) (ALERTS{{alertstate="firing", {CHOSEN}}})'],
        {
            "severity": Column(
                "Severity", words={"critical": ("critical", BAD), "warning": ("warning", DOUBTFUL)}, width=76
            ),
            "service": Column(
                "Service", leads_to=of_service("lethe-forgetting", "${__value.raw}"), width=130
            ),
            "alertname": Column("Alert", leads_to="${runbook}#${__value.raw}", least=300),
            "Value": Column("Count", "short", 0),
        },
        nothing="no alert is firing",
        sort="Severity",
        ascending=True,  # critical, warning
        span=span,
        height=TALL,
    )


def vital_signs() -> Row:
    """Return the questions that a dashboard begins with, answered by one number for each service."""
    signs = [
        answer(
            "Is it forgetting?",
            "The largest loss of accuracy on a probe, against its best at the end of a segment; in a stream "
            "without segments, against its best so far. "
            f"Red from {100 * FORGOTTEN.bad:g} points on, like the alert LetheProbeForgotten. "
            f"Probes whose best is below {100 * decision('learned_ratio'):g} % were never learned and do not "
            f"count. The {SHOWN} services that lost most.",
            f"topk({SHOWN}, {FORGETTING})",
            "percentunit",
            FORGOTTEN,
            nothing="nothing to forget yet",
            leads_to="lethe-forgetting",
            decimals=1,
        ),
        answer(
            "Forgetting budget left",
            "Every old skill is to be within its floor for "
            f"{100 * decision('skills_within_floor_objective'):g} % of 30 days. What is left of the rest: "
            "100 % is untouched, below 0 the objective is missed.",
            f"bottomk({SHOWN}, {BUDGET})",
            "percentunit",
            LEFT,
            nothing="no skill is old yet",
            leads_to="lethe-forgetting",
            decimals=1,
        ),
        answer(
            "Is it learning?",
            "Accuracy on each batch before it is learned, older ones fading. Whoever learns nothing forgets "
            "nothing: at a new segment, it stays near chance.",
            f"bottomk({SHOWN}, {LEARNING})",
            "percentunit",
            UNSURE,
            nothing="nothing learned yet",
            leads_to="lethe-forgetting",
            decimals=1,
        ),
        answer(
            "Is it keeping up?",
            f"Time to learn the waiting records at the current speed. Stalled if more than {WAITING} records "
            "wait and nothing was learned for five minutes; idle if none wait, or fewer than a batch.",
            f"topk({SHOWN}, {KEEPING_UP})",
            "s",
            Limits(60, 600),
            nothing="unknown",
            leads_to="lethe-stream",
            decimals=0,
            words=STALLED,
        ),
        answer(
            "Is it keeping anything?",
            "Samples whose pixels are in memory now, in transit or stored by the learner. In transit "
            "there are at most batch size times slots, and none while the stream is idle unless a batch "
            "is incomplete; stored, at most the learner's capacity, 0 for most learners.",
            f"topk({SHOWN}, {KEEPING})",
            "short",
            Limits(2048, 8192),
            nothing="unknown",
            leads_to="lethe-privacy",
            decimals=0,
        ),
        answer(
            "Is it alive?",
            "Yes if the service answers Prometheus and its training loop has run within two minutes.",
            f"bottomk({SHOWN}, {ALIVE})",
            "short",
            Limits(0.5, 0.5, below=True),
            nothing="no service",
            leads_to="lethe-stream",
            words={"0": ("no", BAD), "1": ("yes", GOOD)},
        ),
    ]
    return Row("", signs)
