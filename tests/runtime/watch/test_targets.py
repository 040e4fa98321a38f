"""Models are asked in the protocols of model servers, as functions and as checkpoints."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lethe.errors import InvalidSetting, TargetUnavailable, UnexpectedAnswer
from lethe.runtime.watch.targets.checkpoints import CheckpointTarget
from lethe.runtime.watch.targets.function import FunctionTarget
from lethe.runtime.watch.targets.http import HttpOptions, HttpTarget
from lethe.runtime.watch.targets.protocols import PROTOCOLS
from lethe.runtime.watch.targets.target import Form, read_outputs
from tests.support.watched import Model, model_server, probes_of, serving

(PROBE,) = probes_of("a", images=6)
PATHS = {
    "kserve-v2": "/v2/models/digits/infer",
    "kserve-v1": "/v1/models/digits:predict",
    "mlflow": "/invocations",
    "lethe": "/predict",
}
NO_RETRY = HttpOptions(retries=0)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Model, str]]:
    model = Model("a")
    with serving(model_server(model)) as address:
        yield model, address


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_gives_the_answers_of_the_model(protocol: str, server: tuple[Model, str]) -> None:
    model, address = server
    target = HttpTarget(address + PATHS[protocol], protocol, NO_RETRY)
    answers = target.ask(PROBE.x_NCHW)
    assert answers.labels_B.tolist() == PROBE.y_N.tolist()
    assert answers.confidence_B.tolist() == pytest.approx([1.0 if protocol == "mlflow" else 0.7] * 6)
    assert answers.version == (model.version if protocol == "kserve-v2" else None)
    target.close()


def test_a_token_is_sent_and_read_anew_for_each_request(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    seen = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={"predictions": [0] * 6})

    options = HttpOptions(token_file=tmp_path / "token")
    target = HttpTarget("http://m/invocations", "mlflow", options, transport=httpx.MockTransport(respond))
    target.ask(PROBE.x_NCHW)
    (tmp_path / "token").write_text("second\n")
    target.ask(PROBE.x_NCHW)
    assert seen == ["Bearer first", "Bearer second"]
    (tmp_path / "token").unlink()
    with pytest.raises(TargetUnavailable, match="token"):
        target.ask(PROBE.x_NCHW)


def failing(*responses: httpx.Response | Exception) -> tuple[list[float], Callable[[int], HttpTarget]]:
    left, slept = list(responses), list[float]()

    def respond(request: httpx.Request) -> httpx.Response:
        response = left.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    transport = httpx.MockTransport(respond)
    return slept, lambda retries: HttpTarget(
        "http://m/invocations", "mlflow", HttpOptions(retries=retries), slept.append, transport
    )


GOOD = httpx.Response(200, json={"predictions": [0] * 6})


def test_a_failure_that_may_be_gone_is_retried_a_bounded_number_of_times() -> None:
    slept, target = failing(httpx.ConnectError("refused"), httpx.Response(503), GOOD)
    assert target(2).ask(PROBE.x_NCHW).labels_B.tolist() == [0] * 6
    assert slept == [0.2, 0.4]
    slept, target = failing(httpx.ReadTimeout("slow"), httpx.ReadTimeout("slow"), GOOD)
    with pytest.raises(TargetUnavailable, match="does not answer: slow"):
        target(1).ask(PROBE.x_NCHW)


def test_a_request_that_is_wrong_is_not_repeated() -> None:
    slept, target = failing(httpx.Response(404, text="no such model"), GOOD)
    with pytest.raises(TargetUnavailable, match=r"m/invocations answers with status 404: 'no such model'"):
        target(3).ask(PROBE.x_NCHW)
    assert slept == []


def test_a_server_that_is_too_slow_does_not_answer(server: tuple[Model, str]) -> None:
    model, address = server
    model.slow = 1.0
    target = HttpTarget(address + PATHS["mlflow"], "mlflow", HttpOptions(timeout=0.1, retries=0))
    with pytest.raises(TargetUnavailable, match="does not answer: timed out"):
        target.ask(PROBE.x_NCHW)
    model.slow = 0.0
    target.close()


def test_a_redirect_is_not_followed() -> None:
    moved = httpx.Response(307, headers={"location": "http://elsewhere/"})
    _, target = failing(moved, GOOD)
    with pytest.raises(TargetUnavailable, match="307"):
        target(0).ask(PROBE.x_NCHW)


WRONG: dict[str, list[tuple[Any, str]]] = {
    "kserve-v2": [
        (
            {"error": "x"},
            r"asked with shape \[6, 1, 2, 2\], answered with keys error; expected an object with out",
        ),
        ({"outputs": []}, r"expected a list of output tensors"),
        (
            {"outputs": [{"data": [1, 2, 3], "shape": [6, 4]}]},
            r"\[6, 1, 2, 2\], answered with shape \[6, 4\]",
        ),
        (
            {"outputs": [{"data": [1, 2, 3], "shape": [3]}]},
            r"\[6, 1, 2, 2\], answered with int64 of shape \[3\]",
        ),
    ],
    "kserve-v1": [({"predictions": [[0.5], [0.1, 0.9]]}, r"\[6, 1, 2, 2\]"), ([1], "answered with list")],
    "mlflow": [
        ({"predictions": ["cat"] * 6}, r"answered with <U3 of shape \[6\]; expected numbers"),
        ({"predictions": [0.5] * 6}, "expected whole numbers"),
        ({"predictions": [[[1.0]]] * 6}, r"shape \[6, 1, 1\]"),
    ],
    "lethe": [({"predictions": 3}, "a list in predictions"), ({"predictions": [{}]}, "probabilities")],
}


@pytest.mark.parametrize(("protocol", "body", "why"), [(p, b, w) for p in WRONG for b, w in WRONG[p]])
def test_an_answer_of_another_shape_is_an_error_that_shows_both(protocol: str, body: Any, why: str) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
    target = HttpTarget("http://m/x", protocol, NO_RETRY, transport=transport)
    with pytest.raises(UnexpectedAnswer, match=why):
        target.ask(PROBE.x_NCHW)


def test_an_answer_that_is_not_json_is_quoted() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text="<html>login"))
    target = HttpTarget("http://m/x", "mlflow", NO_RETRY, transport=transport)
    with pytest.raises(UnexpectedAnswer, match="'<html>login', not JSON"):
        target.ask(PROBE.x_NCHW)


def test_numbers_that_are_not_finite_are_no_answer() -> None:
    with pytest.raises(UnexpectedAnswer, match="not finite"):
        read_outputs([[np.nan, 1.0]], [1, 2])


def test_scores_become_probabilities_and_probabilities_stay() -> None:
    scores = read_outputs([[2.0, 0.0], [0.0, 1.0]], [2, 3])
    assert scores.confidence_B.tolist() == pytest.approx(
        torch.tensor([[2.0, 0], [0, 1]]).softmax(1).amax(1).tolist()
    )
    assert read_outputs([[0.25, 0.75]], [1, 3]).confidence_B.tolist() == [0.75]
    assert read_outputs([[3], [1]], [2, 3]).labels_B.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("form", "shape", "largest"),
    [
        (Form(), (6, 1, 2, 2), 97),
        (Form("unit", "flat"), (6, 4), 97 / 255),
        (Form("uint8", "nhwc"), (6, 2, 2, 1), 97),
    ],
)
def test_images_have_the_form_that_the_model_takes(
    form: Form, shape: tuple[int, ...], largest: float
) -> None:
    x = form.apply(PROBE.x_NCHW)
    assert x.shape == shape
    assert float(x.max()) == pytest.approx(largest)
    body = PROTOCOLS["kserve-v2"].request(PROBE.x_NCHW, form)["inputs"][0]
    assert (tuple(body["shape"]), body["datatype"]) == (shape, "UINT8" if form.values == "uint8" else "FP32")
    json.dumps(body)


@pytest.mark.parametrize(
    ("url", "protocol", "options", "why"),
    [
        ("model:8080", "mlflow", HttpOptions(), "--url"),
        ("ftp://model/x", "mlflow", HttpOptions(), "--url"),
        ("http://model/x", "smoke", HttpOptions(), "--protocol smoke: must be one of kserve-v2"),
        ("http://model/x", "mlflow", HttpOptions(token_file=Path("missing")), "--token-file missing"),
        ("http://model/x", "mlflow", HttpOptions(ca_file=Path("missing")), "--ca-file missing"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    url: str, protocol: str, options: HttpOptions, why: str
) -> None:
    with pytest.raises(InvalidSetting, match=why):
        HttpTarget(url, protocol, options)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("a_package_of_the_user")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_function_is_imported_and_asked_with_its_version(module: ModuleType) -> None:
    def predict(x: Any) -> torch.Tensor:
        return torch.from_numpy(Model("a").predict(x)).requires_grad_()

    predict.version = 3  # type: ignore[attr-defined]
    vars(module)["predict"] = predict
    target = FunctionTarget("a_package_of_the_user:predict", Form())
    assert target.refresh() == "3"
    answers = target.ask(PROBE.x_NCHW)
    assert (answers.labels_B.tolist(), answers.version) == (PROBE.y_N.tolist(), "3")


def test_a_function_that_raises_is_unavailable(module: ModuleType) -> None:
    vars(module)["predict"] = lambda x: x.no_such
    with pytest.raises(TargetUnavailable, match="raised AttributeError"):
        FunctionTarget("a_package_of_the_user:predict", Form()).ask(PROBE.x_NCHW)


@pytest.mark.parametrize("name", ["nothing", "no_such_package:predict", "json:no_such", "json:__name__"])
def test_a_function_that_cannot_be_imported_is_named(name: str) -> None:
    with pytest.raises(InvalidSetting, match=f"--python {name}"):
        FunctionTarget(name, Form())


def write_checkpoint(folder: Path, name: str, label: int, at: int) -> None:
    bias = torch.zeros(4)
    bias[label] = 1
    save_file({"1.weight": torch.zeros(4, 4), "1.bias": bias}, folder / f"{name}.safetensors")
    os.utime(folder / f"{name}.safetensors", (at, at))


def test_each_new_checkpoint_is_a_version_and_none_is_skipped(module: ModuleType, tmp_path: Path) -> None:
    vars(module)["net"] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    target = CheckpointTarget(tmp_path, "a_package_of_the_user:net", Form("unit"))
    assert target.refresh() is None
    with pytest.raises(TargetUnavailable, match="holds no checkpoint yet"):
        target.ask(PROBE.x_NCHW)
    for label, name in enumerate(["old", "newest"]):
        write_checkpoint(tmp_path, name, label, at=100 + label)
    assert target.refresh() == "newest"
    write_checkpoint(tmp_path, "z", 3, at=300)
    write_checkpoint(tmp_path, "y", 2, at=200)
    assert [target.refresh(), target.ask(PROBE.x_NCHW).labels_B.tolist()] == ["y", [2] * 6]
    assert [target.refresh(), target.ask(PROBE.x_NCHW).version, target.refresh()] == ["z", "z", "z"]


def test_a_checkpoint_that_is_deleted_meanwhile_is_passed_over(module: ModuleType, tmp_path: Path) -> None:
    vars(module)["net"] = lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 4))
    (tmp_path / "listed.safetensors").symlink_to(tmp_path / "and-gone")
    write_checkpoint(tmp_path, "newest", 1, at=100)
    target = CheckpointTarget(tmp_path, "a_package_of_the_user:net", Form("unit"))
    assert target.refresh() == "newest"


def test_a_checkpoint_that_does_not_fit_is_unknown(module: ModuleType, tmp_path: Path) -> None:
    vars(module)["net"] = lambda: nn.Linear(3, 3)
    write_checkpoint(tmp_path, "other", 0, at=100)
    with pytest.raises(TargetUnavailable, match="does not fit the network"):
        CheckpointTarget(tmp_path, "a_package_of_the_user:net", Form()).refresh()


def test_a_backbone_makes_a_network_and_the_folder_exists(module: ModuleType, tmp_path: Path) -> None:
    vars(module)["net"] = lambda: 3
    with pytest.raises(InvalidSetting, match="returned a int, not a network"):
        CheckpointTarget(tmp_path, "a_package_of_the_user:net", Form())
    with pytest.raises(InvalidSetting, match="is not a folder"):
        CheckpointTarget(tmp_path / "none", "a_package_of_the_user:net", Form())
