"""Fixtures that several rooms use, and the check for optional components."""

import os
import shutil
import signal
import uuid
from collections.abc import Generator, Iterator

import pytest
import torch
from playwright.sync_api import Browser, expect, sync_playwright

from deploy.kafka.kraft import FAST_RETENTION, KafkaNode
from lethe.stream.embedded_broker import EmbeddedBroker
from tests.support.brokers import StreamBroker, of_embedded, of_kafka
from tests.support.commands import Lethe
from tests.support.components import COMPONENTS, require, required
from tests.support.worker_locks import worker_slot


def pytest_configure(config: pytest.Config) -> None:
    required()  # a misspelt component must not pass for one that is required
    # a script's job in the background is started to ignore it, and so would be what tests start and interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for component in needs(item):
            if component not in COMPONENTS:
                raise pytest.UsageError(f"{item.nodeid} needs {component}; known are {', '.join(COMPONENTS)}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with worker_slot(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for component in needs(item):
        require(component)


def needs(item: pytest.Item) -> list[str]:
    return [component for mark in item.iter_markers("needs") for component in mark.args]


@pytest.fixture(scope="session")
def kafka_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """Apache Kafka for the whole session; a test that stops it must start it again."""
    require("kafka")
    with KafkaNode(tmp_path_factory.mktemp("kafka"), properties=FAST_RETENTION) as node:
        yield node


@pytest.fixture
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """A fresh embedded broker."""
    require("embedded")
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(params=["embedded", "kafka"])
def broker(request: pytest.FixtureRequest) -> StreamBroker:
    """Both brokers, one after the other."""
    if request.param == "kafka":
        return of_kafka(request.getfixturevalue("kafka_node"))
    return of_embedded(request.getfixturevalue("embedded_broker"))


@pytest.fixture(scope="module")  # while it runs, no test can have an event loop of its own
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    require("chromium")
    with sync_playwright() as playwright:
        expect.set_options(timeout=20_000)  # milliseconds: the machine may be busy
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread of torch: small batches are learned faster than with several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def topic() -> str:
    """A name that no other test uses."""
    return f"images-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def lethe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Lethe:
    """The command; it prints without colours, and in wide lines."""
    return Lethe(capsys, monkeypatch)
