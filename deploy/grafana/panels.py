"""The panel types of the dashboards, each with a title, a description, a unit and limits.

Built with Grafana's typed library for Grafana 11.6, which rejects options that Grafana does not know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

__all__ = [
    "BAD",
    "DATASOURCE",
    "DOUBTFUL",
    "GOOD",
    "GREY",
    "NEUTRAL",
    "WIDTH",
    "Column",
    "Limits",
    "Query",
    "answer",
    "chart",
    "crosstab",
    "grid",
    "matrix",
    "number",
    "of_service",
    "timeline",
]

DATASOURCE: Final = model.DataSourceRef("prometheus", "${datasource}")
"""The Prometheus selected at the top of the dashboard; its uid differs between Grafana installations."""
WIDTH: Final = 24
"""Columns of a dashboard."""
GOOD, DOUBTFUL, BAD, NEUTRAL, GREY = "green", "orange", "red", "blue", "#8e8e8e"
SWITCH: Final = "purple"
"""Colour of the mark at the start of a segment."""
SERVICE: Final = "{{service}}"


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the legend of its series.

    ``grey`` series are dashed: limits and chance; a ``floor`` is, too, and is not in the legend. ``mark`` is
    a bar from bottom to top of an axis from 0 to 1, not in the legend either.
    """

    expr: str
    legend: str = SERVICE
    grey: bool = False
    floor: bool = False
    mark: bool = False


@dataclass(frozen=True)
class Limits:
    """Thresholds at which a panel turns orange and red; ``below`` if small values are bad."""

    doubtful: float
    bad: float
    below: bool = False

    def steps(self) -> list[model.Threshold]:
        """Return the thresholds of a coloured value, in ascending order, as Grafana requires."""
        colours = (BAD, DOUBTFUL, GOOD) if self.below else (GOOD, DOUBTFUL, BAD)
        values = (None, *sorted((self.doubtful, self.bad)))
        return [model.Threshold(value, colour) for value, colour in zip(values, colours, strict=True)]

    def lines(self) -> list[model.Threshold]:
        """Return the thresholds of a chart: Grafana draws each line in the colour of its step."""
        colours = (BAD, DOUBTFUL) if self.below else (DOUBTFUL, BAD)
        values = sorted((self.doubtful, self.bad))
        limits = [model.Threshold(value, colour) for value, colour in zip(values, colours, strict=True)]
        return [model.Threshold(None, "transparent"), *limits]


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and what is shown of its values.

    ``words`` maps a value to the text and colour shown in its place, ``leads_to`` is the address behind it.
    """

    title: str
    unit: str | None = None
    decimals: int | None = None
    limits: Limits | None = None
    words: Mapping[str, tuple[str, str]] | None = None
    leads_to: str | None = None
    width: int | None = None
    least: int | None = None
    """Least width; a table that is too narrow for its columns scrolls."""

    def properties(self) -> list[model.DynamicConfigValue]:
        """Return the options that differ from the table's."""
        found: dict[str, object] = {}
        if self.unit is not None:
            found["unit"] = self.unit
        if self.decimals is not None:
            found["decimals"] = self.decimals
        if self.limits is not None:
            found["thresholds"] = _thresholds(self.limits.steps()).build()
        if self.words:
            found["mappings"] = [_words(self.words)]
        if self.limits is not None or self.words:
            found["custom.cellOptions"] = common.TableColoredBackgroundCellOptions(
                mode=common.TableCellBackgroundDisplayMode.BASIC
            )
        if self.leads_to is not None:
            found["links"] = [{"title": self.title, "url": self.leads_to}]
        if self.width is not None:
            found["custom.width"] = self.width
        if self.least is not None:
            found["custom.minWidth"] = self.least
        return [model.DynamicConfigValue(name, value) for name, value in found.items()]


def of_service(uid: str, service: str) -> str:
    """Return the address of a dashboard with one service chosen, of the same time range."""
    return f"/d/{uid}?var-service={service}&${{__url_time_range}}"


def answer(
    title: str,
    description: str,
    expr: str,
    unit: str,
    limits: Limits,
    nothing: str,
    *,
    leads_to: str,
    decimals: int | None = None,
    words: Mapping[str, tuple[str, str]] | None = None,
) -> stat.Panel:
    """Return a panel with one large number per service, or ``nothing`` without data.

    ``words`` maps a value, as JavaScript prints it, to the word and colour shown in its place. ``leads_to``
    is the uid of the dashboard where one looks next.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .thresholds(_thresholds(limits.steps()))
        .no_value(nothing)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.BACKGROUND_SOLID)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(build_common.ReduceDataOptions().calcs(["last"]))
        .data_links(
            [build.DashboardLink("Look closer").url(of_service(leads_to, "${__field.labels.service}"))]
        )
        .height(4)
        .span(WIDTH // 6)
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if words:
        panel = panel.mappings([_words(words)])
    return panel.with_target(_target(Query(expr), 0).instant())


def chart(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    *,
    limits: Limits | None = None,
    ratio: bool = False,
    steps: bool = False,
    from_zero: bool = True,
    decimals: int | None = None,
    nothing: str = "no data yet",
    span: int = WIDTH // 3,
    height: int = 8,
) -> timeseries.Panel:
    """Return a time series panel.

    The axis is 0 to 1 with ``ratio``, otherwise it reaches at least from 0 to the limits, which are drawn as
    dashed lines. ``steps`` draws what changes only at evaluations as it is. The worst series is on top of the
    legend, of which three lines are in sight.
    """
    worst_is_lowest = limits.below if limits is not None else ratio
    legend = build_common.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    legend = legend.sort_by("Last *").sort_desc(not worst_is_lowest)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .targets([_target(_complete(query), number) for number, query in enumerate(queries)])
        .tooltip(
            build_common.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .legend(legend.display_mode(common.LegendDisplayMode.TABLE).calcs(["lastNotNull", "min"]))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC))
        .line_width(2)
        .line_interpolation(common.LineInterpolation.STEP_AFTER if steps else common.LineInterpolation.LINEAR)
        .show_points(common.VisibilityMode.NEVER)
        .no_value(nothing)
        .height(height)
        .span(span)
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if ratio:
        panel = panel.min(0).max(1)
    elif from_zero:
        panel = panel.axis_soft_min(0)
    if limits is not None:
        dashed = build_common.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(_thresholds(limits.lines())).thresholds_style(dashed)
    if limits is not None and not ratio:
        panel = panel.axis_soft_max(1.1 * max(limits.doubtful, limits.bad, 0.0))
        if min(limits.doubtful, limits.bad) < 0:
            panel = panel.axis_soft_min(1.1 * min(limits.doubtful, limits.bad))
    elif not ratio:
        panel = panel.axis_soft_max(0.01 if unit == "percentunit" else 1)
    for number, query in enumerate(queries):
        properties = _MARK if query.mark else _GREY if query.grey or query.floor else []
        properties = [*properties, *(_UNLISTED if query.mark or query.floor else [])]
        if properties:
            panel = panel.override_by_query(_letter(number), properties)
    return panel


def _complete(query: Query) -> Query:
    """Add a series without values for each service that lacks one, if any has one.

    Colours go by the order of the series, and Prometheus returns them in the order of their labels: so a
    service has the same colour in every panel.
    """
    if query.legend != SERVICE:
        return query
    every = 'NaN * max by (service) (lethe_build_info{service=~"$service"})'
    return replace(query, expr=f"({query.expr}) or {every} and on () ({query.expr})")


_GREY: Final = [
    model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": GREY}),
    model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [6, 6]}),
    model.DynamicConfigValue("custom.lineWidth", 1),
]
_MARK: Final = [
    model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": SWITCH}),
    model.DynamicConfigValue("custom.drawStyle", "bars"),
    model.DynamicConfigValue("custom.barMaxWidth", 2),
    model.DynamicConfigValue("custom.lineWidth", 0),
    model.DynamicConfigValue("custom.fillOpacity", 100),
]
_UNLISTED: Final = [
    model.DynamicConfigValue("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False}),
]


def timeline(title: str, description: str, expr: str, label: str) -> statetimeline.Panel:
    """Return a bar of the values that ``label`` had, one after another."""
    steps: dict[str, object] = {
        "labelsToFields": {"mode": "columns", "keepLabels": [label]},
        "merge": {},
        "sortBy": {"sort": [{"field": "Time"}]},
        "filterFieldsByName": {"include": {"names": ["Time", label]}},
    }
    return (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .with_target(_target(Query(expr, f"{{{{{label}}}}}"), 0))
        .transformations([model.DataTransformerConfig(name, options=step) for name, step in steps.items()])
        .legend(build_common.VizLegendOptions().show_legend(False))
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.FIXED).fixed_color(SWITCH))
        .override_by_name(label, [model.DynamicConfigValue("displayName", " ")])
        .merge_values(True)
        .show_value(common.VisibilityMode.AUTO)
        .row_height(0.9)
        .fill_opacity(35)
        .line_width(1)
        .height(3)
        .span(WIDTH)
    )


def number(title: str, description: str, expr: str, unit: str, span: int = WIDTH // 3) -> stat.Panel:
    """Return a panel with the current number of each service, without limits."""
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
        .height(8)
        .span(span)
    )


def grid(
    title: str,
    description: str,
    queries: Sequence[str],
    columns: Mapping[str, Column],
    *,
    nothing: str,
    sort: str | None = None,
    ascending: bool = False,
    span: int = WIDTH // 2,
    height: int = 6,
) -> table.Panel:
    """Return a table with one row for each set of labels and one column for each label or query.

    The keys of ``columns`` are the labels and, for the values of queries, ``Value #A``, ``Value #B`` and so
    on, or ``Value`` for a single one. Rows are sorted by the column titled ``sort``, the largest first unless
    ``ascending``.
    """
    steps: dict[str, object] = {
        "merge": {},
        "filterFieldsByName": {"include": {"names": list(columns)}},
        "organize": {
            "indexByName": {name: number for number, name in enumerate(columns)},
            "renameByName": {name: column.title for name, column in columns.items()},
        },
    }
    panel = _table(title, description, queries, span, height).no_value(nothing)
    panel = panel.transformations(
        [model.DataTransformerConfig(name, options=step) for name, step in steps.items()]
    )
    for column in columns.values():
        if properties := column.properties():
            panel = panel.override_by_name(column.title, properties)
    for name, column in columns.items():
        if not name.startswith("Value"):  # an empty cell, not an empty table
            panel = panel.override_by_name(column.title, [model.DynamicConfigValue("noValue", " ")])
    if sort is not None:
        panel = panel.sort_by([build_common.TableSortByFieldState().display_name(sort).desc(not ascending)])
    return panel


def crosstab(
    title: str, description: str, expr: str, rows: str, columns: str, span: int = WIDTH // 3
) -> table.Panel:
    """Return a table of counts with one row per value of a label and one column per value of another."""
    grouped = {"rowField": rows, "columnField": columns, "valueField": "Value"}
    spaced = {"regex": "/_/g", "renamePattern": " "}  # headings are the label's values
    return (
        _table(title, description, [expr], span, 8)
        .transformations(
            [
                model.DataTransformerConfig("groupingToMatrix", options=grouped),
                model.DataTransformerConfig("renameByRegex", options=spaced),
            ]
        )
        .unit("locale")
        .no_value("nothing yet")
        .override_by_regexp(f"^{rows}.*", [model.DynamicConfigValue("displayName", rows)])
    )


def matrix(
    title: str,
    description: str,
    expr: str,
    *,
    rows: str,
    order: str,
    columns: str,
    columns_order: str | None = None,
    heading: str,
    latest_first: bool = False,
    span: int,
    height: int,
) -> table.Panel:
    """Return a table of ``expr`` in percent, a row per value of one label and a column per value of another.

    Rows are in the order of the number in the label ``order``, or from the largest down if ``latest_first``,
    columns in that of ``columns_order`` or of their names; ``heading`` is that of the rows. The scale is
    neutral: what is small here need not be bad.
    """
    numbers = [order] if columns_order is None else [columns_order, order]  # sorting is stable
    conversions = [{"targetField": name, "destinationType": "number"} for name in numbers]
    steps: list[tuple[str, object]] = [
        ("convertFieldType", {"conversions": conversions}),
        *(
            ("sortBy", {"sort": [{"field": name, "desc": latest_first and name == order}]})
            for name in numbers
        ),
        ("groupingToMatrix", {"rowField": rows, "columnField": columns, "valueField": "Value"}),
    ]
    names = [
        model.DynamicConfigValue("displayName", heading),
        model.DynamicConfigValue("unit", "string"),
        model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": "text"}),
        model.DynamicConfigValue("custom.cellOptions", common.TableAutoCellOptions()),
        model.DynamicConfigValue("custom.width", 130),
    ]
    return (
        _table(title, description, [f"100 * {expr}"], span, height)
        .transformations([model.DataTransformerConfig(name, options=step) for name, step in steps])
        .unit("none")
        .decimals(0)
        .min(0)
        .max(100)
        .min_width(32)
        .align(common.FieldTextAlignment.CENTER)
        .color_scheme(build.FieldColor().mode(model.FieldColorModeId.CONTINUOUS_BLUES))
        .cell_options(
            common.TableColoredBackgroundCellOptions(mode=common.TableCellBackgroundDisplayMode.BASIC)
        )
        .override_by_regexp(f"^{rows}.*", names)
    )


def _words(words: Mapping[str, tuple[str, str]]) -> model.ValueMap:
    return model.ValueMap(
        {value: model.ValueMappingResult(word, colour) for value, (word, colour) in words.items()}
    )


def _table(title: str, description: str, queries: Sequence[str], span: int, height: int) -> table.Panel:
    targets: list[Builder[Dataquery]] = [
        _target(Query(expr, ""), number).instant().format(PromQueryFormat.TABLE)
        for number, expr in enumerate(queries)
    ]
    return (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets(targets)
        .min_width(60)
        .height(height)
        .span(span)
    )


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _target(query: Query, number: int) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(_letter(number)).range()


def _thresholds(steps: list[model.Threshold]) -> Builder[model.ThresholdsConfig]:
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
