"""The dashboards against Grafana's schema, and their data source."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.grafana_schema import misfits
from tests.support.monitoring import DEPLOY, dashboards, panels


def sources(part: Any) -> Iterator[dict[str, str]]:
    """Every data source that is named somewhere in ``part``."""
    if isinstance(part, dict):
        if "datasource" in part:
            yield part["datasource"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from sources(inner)


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: board["uid"])
def test_every_query_uses_the_chosen_data_source(board: dict[str, Any]) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    asking = [*panels(board), *board["annotations"]["list"], board["templating"]["list"][1]]
    assert [part["datasource"] for part in asking] == [chosen] * len(asking)
    assert all(source == chosen for source in sources(board))


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: board["uid"])
def test_the_prometheus_that_is_provisioned_is_chosen_first(board: dict[str, Any]) -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    variable = board["templating"]["list"][0]
    assert (variable["type"], variable["name"], variable["query"]) == (
        "datasource",
        "datasource",
        source["type"],
    )
    assert (variable["current"]["text"], variable["current"]["value"]) == (source["name"], source["uid"])


def test_the_scrape_interval_is_set_for_grafana() -> None:
    folder = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    interval = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"][
        "scrape_interval"
    ]
    assert source["jsonData"]["timeInterval"] == interval


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: board["uid"])
def test_every_value_fits_grafanas_schema(board: dict[str, Any]) -> None:
    assert misfits(board) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("title",), 3),
        (("refresh",), True),
        (("panels", 0, "gridPos", "w"), "6"),
        (("panels", 0, "options", "colorMode"), "sometimes"),
        (("panels", 0, "targets", 0, "expr"), 5),
        (("panels", 0, "fieldConfig", "defaults", "thresholds", "mode"), "per mille"),
        (("templating", "list", 0, "type"), "guess"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_invalid_value_is_found(place: tuple[str | int, ...], value: object) -> None:
    board = deepcopy(next(board for board in dashboards() if board["uid"] == "lethe-forgetting"))
    part: Any = board
    for name in place[:-1]:
        part = part[name]
    assert part[place[-1]] != value
    part[place[-1]] = value
    assert len(misfits(board)) == 1


@pytest.mark.parametrize("board", dashboards(), ids=lambda board: board["uid"])
def test_grafanas_own_model_keeps_every_field(board: dict[str, Any]) -> None:
    board = deepcopy(board)
    for mark in board["annotations"]["list"]:  # these three belong to the plugin for Prometheus
        for text in ("titleFormat", "textFormat", "step"):
            mark.pop(text, None)
    assert json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder)) == board
