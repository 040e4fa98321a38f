"""The service answers requests for allowed hosts only, and sends security headers."""

import logging
from collections.abc import Iterator

import httpx
import pytest

from lethe.errors import InvalidSetting
from lethe.settings import Settings
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.rejected_requests import RejectionReason
from lethe.web.security import AllowedHosts
from lethe.web.server import Server
from tests.support.predicting import LAYOUT, LEARNER, create

REJECTED: list[RejectionReason] = []


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions:
        server = Server(
            create(predictions),
            "127.0.0.1",
            0,
            hosts=AllowedHosts(["lethe.example"]),
            on_rejected=REJECTED.append,
        )
        with server, httpx.Client(base_url=server.address) as client:
            yield client


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9108",
        "10.1.2.3",
        "[::1]:9108",
        "[fe80::1]",
        "localhost",
        "LOCALHOST:1",
        "lethe.example:9108",
    ],
)
def test_literal_addresses_and_allowed_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/livez", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "lethe.example.evil", "127.0.0.1.evil.example", "localhost.evil", "", "1.2.3.4.5", "x"],
)
@pytest.mark.parametrize(
    "path", ["/", "/livez", "/state", "/metrics", "/events", "/predict", "/openapi.json"]
)
def test_another_host_name_is_rejected_on_every_path(client: httpx.Client, host: str, path: str) -> None:
    REJECTED.clear()
    rejected = client.get(path, headers={"host": host})
    assert rejected.status_code == 421
    assert "serve.hosts" in rejected.json()["detail"]
    assert REJECTED == [RejectionReason.HOST]


def test_a_name_that_begins_with_a_dot_matches_its_subdomains() -> None:
    hosts = AllowedHosts([".lethe.svc"])
    assert hosts.allows(b"lethe-0.lethe.svc:9108")
    assert not hosts.allows(b"lethe.svc.evil")
    assert AllowedHosts(["*"]).allows(b"anything")


@pytest.mark.parametrize("hosts", ["a b", "http://a", "a:1", "a,,b/", "-"])
def test_an_invalid_host_name_is_an_error_that_names_the_setting(hosts: str) -> None:
    with pytest.raises(InvalidSetting, match=r"serve\.hosts"):
        Settings.read({"serve": {"hosts": hosts}})


@pytest.mark.parametrize(
    "path", ["/metrics", "/state", "/livez", "/readyz", "/openapi.json", "/nothing", "/predict"]
)
def test_responses_about_the_run_must_not_be_cached_sniffed_or_embedded(
    client: httpx.Client, path: str
) -> None:
    headers = client.get(path).headers
    assert headers["cache-control"] == "no-store"
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/icon.svg", "/plotly.js"])
def test_assets_of_the_page_must_not_be_sniffed(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert "no-store" not in headers["cache-control"]


def test_a_server_detects_whether_other_machines_can_reach_it(caplog: pytest.LogCaptureFixture) -> None:
    with PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions, caplog.at_level(logging.INFO):
        for host, public in (("127.0.0.1", False), ("0.0.0.0", True)):
            with Server(create(predictions), host, 0) as server:
                assert server.public is public
