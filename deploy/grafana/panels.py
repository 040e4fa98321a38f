"""The kinds of panels that the dashboards consist of, each with a title, a description, a unit and limits.

Built with Grafana's own typed library for Grafana 11.6, so that what it would not understand is an
error here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

__all__ = [
    "BAD",
    "DATASOURCE",
    "GOOD",
    "NEUTRAL",
    "WIDTH",
    "Limits",
    "Query",
    "answer",
    "chart",
    "grid",
    "matrix",
    "number",
]

DATASOURCE: Final = model.DataSourceRef("prometheus", "${datasource}")
"""Whichever Prometheus is chosen at the top of the dashboard: every Grafana has its own uid for it."""
WIDTH: Final = 24
"""Columns of a dashboard."""
GOOD, DOUBTFUL, BAD, NEUTRAL = "green", "orange", "red", "blue"


@dataclass(frozen=True)
class Query:
    """An expression of PromQL and what its series are called."""

    expr: str
    legend: str = "{{service}}"


@dataclass(frozen=True)
class Limits:
    """Values from which on a panel turns orange and red; ``below`` where small is what is bad."""

    doubtful: float
    bad: float
    below: bool = False

    def steps(self) -> list[model.Threshold]:
        """Return Grafana's ascending steps."""
        colours = (BAD, DOUBTFUL, GOOD) if self.below else (GOOD, DOUBTFUL, BAD)
        values = (None, *sorted((self.doubtful, self.bad)))
        return [model.Threshold(value, colour) for value, colour in zip(values, colours, strict=True)]


def answer(
    title: str,
    description: str,
    expr: str,
    unit: str,
    limits: Limits,
    nothing: str,
    words: dict[str, tuple[str, str]] | None = None,
) -> stat.Panel:
    """Return a big number for each service; ``nothing`` is shown without data.

    ``words`` maps a value, as JavaScript writes it, to a word and its colour, to be shown in its place.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .thresholds(_thresholds(limits))
        .no_value(nothing)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(build_common.ReduceDataOptions().calcs(["last"]))
        .height(5)
        .span(WIDTH // 4)
    )
    if words:
        shown = {value: model.ValueMappingResult(word, colour) for value, (word, colour) in words.items()}
        panel = panel.mappings([model.ValueMap(shown)])
    return panel.with_target(_target(Query(expr), 0).instant())


def chart(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    limits: Limits | None = None,
    ratio: bool = False,
    stacked: bool = False,
    span: int = WIDTH // 3,
) -> timeseries.Panel:
    """Return curves over time; with ``ratio`` the axis always shows 0 to 1, limits are dashed lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .targets([_target(query, number) for number, query in enumerate(queries)])
        .tooltip(build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .legend(build_common.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM))
        .line_width(2)
        .height(9)
        .span(span)
    )
    if ratio:
        panel = panel.min(0).max(1)
    if stacked:
        stacking = build_common.StackingConfig().mode(common.StackingMode.NORMAL)
        panel = panel.stacking(stacking).fill_opacity(25)
    if limits is not None:
        dashed = build_common.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(_thresholds(limits)).thresholds_style(dashed)
    return panel


def number(title: str, description: str, expr: str, unit: str) -> stat.Panel:
    """Return a number for each service that is neither good nor bad, as it is now."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.NONE)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(build_common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(Query(expr), 0).instant())
        .height(9)
        .span(WIDTH // 3)
    )


def grid(
    title: str, description: str, expr: str, columns: Sequence[str], span: int = WIDTH // 2
) -> table.Panel:
    """Return a table of the labels ``columns`` of each series of ``expr``, as it is now."""
    only = model.DataTransformerConfig("filterFieldsByName", options={"include": {"names": list(columns)}})
    return _table(title, description, expr, span).with_transformation(only)


def matrix(title: str, description: str, expr: str, rows: str, columns: str, limits: Limits) -> table.Panel:
    """Return the values of ``expr``, a row for each value of one label, a column for each of another.

    The label of the rows is a number, by which they are sorted.
    """
    steps: dict[str, object] = {
        "convertFieldType": {"conversions": [{"targetField": rows, "destinationType": "number"}]},
        "sortBy": {"sort": [{"field": rows}]},
        "groupingToMatrix": {"rowField": rows, "columnField": columns, "valueField": "Value"},
    }
    heading = [
        model.DynamicConfigValue("unit", "none"),
        model.DynamicConfigValue("custom.cellOptions", common.TableAutoCellOptions()),
    ]
    return (
        _table(title, description, expr, WIDTH // 2)
        .transformations([model.DataTransformerConfig(name, options=step) for name, step in steps.items()])
        .unit("percentunit")
        .decimals(1)
        .thresholds(_thresholds(limits))
        .cell_options(common.TableColoredBackgroundCellOptions())
        .override_by_regexp(f"^{rows}.*", heading)
    )


def _table(title: str, description: str, expr: str, span: int) -> table.Panel:
    target = _target(Query(expr, ""), 0).instant().format(PromQueryFormat.TABLE)
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(target)
        .height(8)
        .span(span)
    )


def _target(query: Query, number: int) -> prometheus.Dataquery:
    name = chr(ord("A") + number)
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(name).range()


def _thresholds(limits: Limits) -> Builder[model.ThresholdsConfig]:
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(limits.steps())
