"""Models behind the servers of others, retrained on Fashion-MNIST midway, are seen to forget MNIST."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, expect
from safetensors.torch import save_file
from sklearn.linear_model import SGDClassifier

from deploy.kafka.kraft import free_port
from lethe.observability.result import RunResult
from lethe.probeset import ProbeSet, save_probe
from lethe_producers.datasets import DatasetName, default_root, load
from tests.support.boards import Drawing, draw
from tests.support.monitoring import dashboards, titles_of_row
from tests.support.prometheus import Monitor, monitoring
from tests.support.waiting import until
from tests.support.watching import Watching, watching

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.needs("datasets", "prometheus", "chromium", "boards"),
]

SERVERS = Path(__file__).parents[2] / "support" / "servers"
NAMES: tuple[DatasetName, ...] = ("mnist", "fashion-mnist")
TRAINING, TESTED = 6000, 500
EVERY = 5
"""Seconds between two evaluations."""

Serve = Callable[[int, int], AbstractContextManager[None]]
"""Serves the model after a stage of training at a port."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the probes, and the images of both stages of training."""
    folder, arrays = tmp_path_factory.mktemp("stages"), {}
    for stage, name in enumerate(NAMES):
        x_NCHW, y_N = load(name, "test", default_root())
        probe = ProbeSet(name, x_NCHW[:TESTED], y_N[:TESTED].astype(np.int64), name, "published")
        save_probe(probe, folder / "probes", stage)
        x_NCHW, y_N = load(name, "train", default_root())
        arrays[f"x{stage}"] = x_NCHW[:TRAINING].reshape(TRAINING, -1).astype(np.float32) / 255
        arrays[f"y{stage}"] = y_N[:TRAINING].astype(np.int64)
    np.savez(folder / "data.npz", allow_pickle=False, **arrays)
    return folder


@pytest.fixture(scope="module")
def weights(stages: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and bias of scikit-learn's linear model after each stage."""
    model, kept = SGDClassifier(loss="log_loss", alpha=1e-4, random_state=0), []
    with np.load(stages / "data.npz") as data:
        for stage in range(len(NAMES)):
            for _ in range(3):
                model.partial_fit(data[f"x{stage}"], data[f"y{stage}"], classes=np.arange(10))
            kept.append((model.coef_.T.astype(np.float32), model.intercept_.astype(np.float32)))
    return kept


def environment(requirements: str, folder: Path) -> Path:
    """The bin folder of a new environment with what the file lists."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    install = [folder / "bin" / "pip", "install", "-q", "-r", SERVERS / requirements]
    subprocess.run(list(map(str, install)), check=True, timeout=1200)
    return folder / "bin"


@contextmanager
def started(command: list[Any], cwd: Path, url: str) -> Iterator[None]:
    """A server in a process group of its own, from when ``url`` answers."""
    path = f"{Path(command[0]).parent}:{os.environ['PATH']}"
    with (cwd / "server.log").open("ab") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env=os.environ | {"PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

        def answers() -> bool:
            assert process.poll() is None, (cwd / "server.log").read_text()
            try:
                return httpx.get(url, timeout=10).status_code == 200
            except httpx.TransportError:
                return False

        try:
            until(answers, f"{url} answers")
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def watch(
    stages: Path,
    target: list[str],
    tmp_path: Path,
    retrain: Callable[[], None],
    browser: Browser,
    **variables: str,
) -> RunResult:
    """Watch ``target``, ``retrain`` it midway, and return the result once MNIST is seen to be forgotten.

    The alert fires within two evaluations; the live page and the dashboards show what is forgotten.
    """
    arguments = ["--probes", stages / "probes", *target, "--pixels", "unit", "--shape", "flat"]
    arguments += ["--every", EVERY, "--timeout", 60, "--report", tmp_path / "report"]
    with watching(arguments, tmp_path / "watch.log", variables=variables) as started:
        until(lambda: started.state().get("visit") == 1, "the first evaluation")
        with monitoring(tmp_path, "watched", started.port) as monitor:
            is_alerted(monitor, started, retrain)
            is_drawn(monitor, browser)
        assert started.metric("lethe_forgetting_ratio", probe="mnist") > 0.1
        page = browser.new_page()
        page.goto(started.address)
        expect(page.locator("#headline")).to_contain_text("forgot mnist", timeout=120_000)
        expect(page.locator("#models .card")).to_contain_text("points below its best: mnist")
        page.close()
    return RunResult.read(tmp_path / "report" / "run.json")


def is_alerted(monitor: Monitor, started: Watching, retrain: Callable[[], None]) -> None:
    """The alert fires within two evaluations after the model is retrained."""

    def fired() -> float | None:
        assert started.process.poll() is None, started.log
        return monitor.fired("LetheProbeForgotten", probe="mnist")

    known = 'lethe_probe_accuracy_ratio{service="watched", probe="mnist"} > 0.8'
    until(lambda: monitor.value(known), "the first evaluation is scraped")
    assert fired() is None
    retrain()
    retrained = time.time()
    until(lambda: started.lost("mnist") > 0.1, "MNIST is forgotten")
    until(fired, "the alert fires")
    since = fired()
    assert since is not None
    assert monitor.evaluations(retrained, since) <= 2


def is_drawn(monitor: Monitor, browser: Browser) -> None:
    """The dashboards show the model, the alert and the requests."""
    forgetting = drawn("lethe-forgetting", monitor, browser)
    for panel in ("Forgotten now", "Firing alerts"):
        assert "watched" in forgetting.text(panel)
    assert "mnist" in forgetting.text("Forgotten now")
    forgetting.page.close()
    stream = drawn("lethe-stream", monitor, browser)
    watched = titles_of_row("lethe-stream", "Watched models")
    assert [title for title in watched if not stream.panel(title).points] == []
    stream.page.close()


def drawn(uid: str, monitor: Monitor, browser: Browser) -> Drawing:
    """A dashboard with what the monitor has seen."""
    (board,) = (board for board in dashboards() if board["uid"] == uid)
    drawing = draw(browser, board, monitor.address, monitor.began, time.time(), scrape=1)
    assert [panel.error for panel in drawing.panels if panel.error] == []
    return drawing


def assert_forgotten_at_once(run: RunResult) -> None:
    """The first evaluation of the retrained model is below the floor of LetheProbeForgotten."""
    assert run.segments == ["mnist", "fashion-mnist"]
    best = max(point.accuracy["mnist"] for point in run.evaluations)
    assert best > 0.8
    after = [point.accuracy["mnist"] for point in run.evaluations if point.visit == 2]
    assert max(after[:2]) < best - 0.1
    assert run.bwt is not None
    assert run.bwt < -0.1


def replaced(serve: Serve, port: int) -> tuple[AbstractContextManager[None], Callable[[], None]]:
    """A server of the first stage's model, and what replaces it by one of the second's."""
    servers = [serve(0, port), serve(1, port)]
    entered = [servers[0]]

    @contextmanager
    def running() -> Iterator[None]:
        servers[0].__enter__()
        try:
            yield
        finally:
            entered[-1].__exit__(None, None, None)

    def retrain() -> None:
        servers[0].__exit__(None, None, None)
        servers[1].__enter__()
        entered.append(servers[1])

    return running(), retrain


def test_scikit_learn_behind_mlflow(stages: Path, tmp_path: Path, browser: Browser) -> None:
    bin_folder = environment("mlflow.txt", tmp_path / "env")
    fit = [bin_folder / "python", SERVERS / "fit_for_mlflow.py", stages / "data.npz", tmp_path]
    subprocess.run(list(map(str, fit)), check=True, timeout=600)

    def serve(stage: int, port: int) -> AbstractContextManager[None]:
        command = [bin_folder / "mlflow", "models", "serve", "-m", tmp_path / str(stage), "-p", port]
        command += ["--env-manager", "local", "--workers", "1"]
        return started(command, tmp_path, f"http://127.0.0.1:{port}/ping")

    port = free_port()
    server, retrain = replaced(serve, port)
    with server:
        target = ["--url", f"http://127.0.0.1:{port}/invocations", "--protocol", "mlflow"]
        run = watch(stages, target, tmp_path, retrain, browser)
    assert_forgotten_at_once(run)


def test_a_linear_model_behind_mlserver(
    stages: Path, weights: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path, browser: Browser
) -> None:
    bin_folder = environment("mlserver.txt", tmp_path / "env")

    def serve(stage: int, port: int) -> AbstractContextManager[None]:
        folder = tmp_path / f"model-{stage}"
        folder.mkdir()
        np.savez(folder / "weights.npz", weights=weights[stage][0], bias=weights[stage][1])
        (folder / "digits_runtime.py").write_text((SERVERS / "digits_runtime.py").read_text())
        parameters = {"uri": str(folder / "weights.npz"), "version": str(stage + 1)}
        model = {"name": "digits", "implementation": "digits_runtime.Digits", "parameters": parameters}
        (folder / "model-settings.json").write_text(json.dumps(model))
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        settings = ports | {"host": "127.0.0.1", "parallel_workers": 0}
        (folder / "settings.json").write_text(json.dumps(settings))
        ready = f"http://127.0.0.1:{port}/v2/models/digits/ready"
        return started([bin_folder / "mlserver", "start", "."], folder, ready)

    port = free_port()
    server, retrain = replaced(serve, port)
    with server:
        run = watch(
            stages, ["--url", f"http://127.0.0.1:{port}/v2/models/digits/infer"], tmp_path, retrain, browser
        )
    assert_forgotten_at_once(run)


def test_a_torch_function(
    stages: Path, weights: list[tuple[np.ndarray, np.ndarray]], tmp_path: Path, browser: Browser
) -> None:
    path = tmp_path / "weights.safetensors"

    def train(stage: int) -> None:
        named = zip(("weights", "bias"), weights[stage], strict=True)
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in named}
        save_file(tensors, tmp_path / "partial")
        (tmp_path / "partial").replace(path)

    train(0)
    run = watch(
        stages,
        ["--python", "tests.support.servers.torch_model:predict"],
        tmp_path,
        lambda: train(1),
        browser,
        WATCHED_WEIGHTS=str(path),
    )
    assert_forgotten_at_once(run)
