"""What all dashboards have in common: the choice of services, the marks at switches, the vital signs."""

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from deploy.grafana.decisions import decision
from deploy.grafana.panels import BAD, DATASOURCE, GOOD, NEUTRAL, Limits, answer

__all__ = ["CHOSEN", "FORGOTTEN", "LAST_TURN", "Row", "frame"]

CHOSEN: Final = 'service=~"$service"'
"""Matches the services that were chosen at the top of the dashboard."""
LAST_TURN: Final = (
    f"(lethe_last_turn_timestamp_seconds{{{CHOSEN}}} > 0"
    f' or process_start_time_seconds{{job="lethe", {CHOSEN}}})'
)
"""When the loop last went round: before its first turn, when the process started."""
FORGOTTEN: Final = Limits(decision("forgetting_ratio") / 2, decision("forgetting_ratio"))
"""Of a loss of accuracy: red from what the alerts take for forgetting."""
LEARNED: Final = decision("learned_ratio")
TAG: Final = "lethe"
SWITCH_SECONDS: Final = 15
"""A segment that the process saw begin is marked for as long: three scrapes."""

Row = tuple[str, Sequence[Builder[model.Panel]]]
"""A title and its panels, from left to right."""


class _Switches(model.AnnotationQuery):
    """Marks where a segment starts, with its name; the texts are Prometheus' own part of an annotation."""

    def to_json(self) -> dict[str, object]:
        texts = {"titleFormat": "{{segment}}", "textFormat": "{{service}}, segment {{visit}}", "step": "5s"}
        return super().to_json() | texts


class _SwitchesBuilder(Builder[model.AnnotationQuery]):
    def build(self) -> model.AnnotationQuery:
        started = f"lethe_segments_started_total{{{CHOSEN}}}"
        new = f"({started} > 0 unless {started} == {started} offset {SWITCH_SECONDS}s)"
        return _Switches(
            name="Segments",
            datasource=DATASOURCE,
            icon_color="purple",
            expr=f"lethe_segment_info{{{CHOSEN}}} and ignoring (segment, visit) {new}",
        )


def frame(uid: str, title: str, description: str, rows: Sequence[Row]) -> model.Dashboard:
    """Return a dashboard that starts with the vital signs, and goes on with ``rows``."""
    board = (
        build.Dashboard(f"Lethe: {title}")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time("now-30m", "now")
        .refresh("5s")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(_datasource())
        .with_variable(_service())
        .annotation(_SwitchesBuilder())
        .link(
            build.DashboardLink("Lethe")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
    )
    for panel in _vital_signs():
        board = board.with_panel(panel)
    for name, panels in rows:
        board = board.with_row(build.Row(name))
        for panel in panels:
            board = board.with_panel(panel)
    built = board.build()
    for number, placed in enumerate(built.panels or [], start=1):
        placed.id_val = number  # addresses of single panels must not change with Grafana's mood
    return built


def _datasource() -> build.DatasourceVariable:
    """Return the choice of a Prometheus: at first the one of compose.yaml, or what Grafana has instead."""
    return (
        build.DatasourceVariable("datasource")
        .label("Prometheus")
        .description("Where the metrics are.")
        .type("prometheus")
        .current(model.VariableOption(selected=True, text="Prometheus", value="lethe-prometheus"))
    )


def _service() -> build.QueryVariable:
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        build.QueryVariable("service")
        .label("Service")
        .description("Which services to show; the panels over their names stand side by side.")
        .datasource(DATASOURCE)
        .query("label_values(lethe_build_info, service)")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(everything)
    )


def _vital_signs() -> list[Builder[model.Panel]]:
    turned = f"time() - {LAST_TURN} < bool 120"
    return [
        answer(
            "Is it forgetting?",
            "The largest loss of accuracy on a skill that was learned, against its best at the end of a "
            "segment; where the stream names none, against its best so far. "
            f"Red from {100 * FORGOTTEN.bad:g} points on, as the alert LetheProbeForgotten. "
            f"Probes whose best is below {100 * LEARNED:g} % were never learned, and do not count.",
            "max by (service) "
            f"(lethe_forgetting_ratio{{{CHOSEN}}} and lethe:probe_accuracy_floor:ratio{{{CHOSEN}}})",
            "percentunit",
            FORGOTTEN,
            nothing="no old skill yet",
        ),
        answer(
            "Is it keeping up?",
            "How long the present speed takes to learn what waits in the topic; stalled where records wait "
            "and none was learned for five minutes.",
            f"max by (service) (lethe:lag:seconds{{{CHOSEN}}})",
            "s",
            Limits(60, 600),
            nothing="unknown",
            words={"Infinity": ("stalled", BAD), "NaN": ("nothing waits", NEUTRAL)},
        ),
        answer(
            "Is it keeping anything?",
            "Samples whose pixels are in the service now, on their way through or kept by the learner. Of "
            "the former never more than batch size times slots, and none when the stream rests, unless a "
            "batch waits to be full; of the latter as many as the learner has room for: most have none.",
            f"sum by (service) (lethe_samples_resident{{{CHOSEN}}} + lethe_samples_kept{{{CHOSEN}}})",
            "short",
            Limits(2048, 8192),
            nothing="unknown",
        ),
        answer(
            "Is it alive?",
            "Yes while it answers Prometheus and its loop has turned within two minutes.",
            f'min by (service) (({turned}) or up{{job="lethe", {CHOSEN}}})',
            "short",
            Limits(0.5, 0.5, below=True),
            nothing="no service",
            words={"0": ("no", BAD), "1": ("yes", GOOD)},
        ),
    ]
