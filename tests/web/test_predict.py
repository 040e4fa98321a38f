"""POST /predict returns the classes of images, or the reason why it cannot."""

import base64
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from lethe.errors import InvalidSetting
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.web.auth import read_token
from lethe.web.predict_body import MAX_IMAGES, kinds, reader
from lethe.web.prediction_worker import PredictionResult, PredictionWorker, QueueFull
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from lethe.wire import PNG, RAW, Layout, Pixels
from tests.support.golden_pictures import GREY_JPEG, WEBP
from tests.support.predicting import AS_RAW, LAYOUT, LEARNER, TOKEN, X_NCHW, create, png


def text(i: int = 0) -> str:
    return base64.b64encode(png(i)).decode()


@pytest.fixture(scope="module")
def predictions() -> Iterator[PredictionWorker]:
    with PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions:
        yield predictions


@pytest.fixture(scope="module")
def client(predictions: PredictionWorker) -> Iterator[httpx.Client]:
    app = create(predictions)
    with Server(app, "127.0.0.1", 0) as server, httpx.Client(base_url=server.address) as client:
        yield client


@pytest.fixture(scope="module")
def locked(predictions: PredictionWorker) -> Iterator[httpx.Client]:
    """The same service behind a token."""
    app = create(predictions, TOKEN)
    with Server(app, "127.0.0.1", 0) as server, httpx.Client(base_url=server.address) as client:
        yield client


def agree(answer: httpx.Response, count: int) -> None:
    """Require the learner's own probabilities for the first ``count`` images."""
    assert answer.status_code == 200, answer.text
    predicted = answer.json()
    assert predicted["model"] == {"learner": "finetune", "samples": 0}
    p_BK = LEARNER.predict_proba(torch.from_numpy(X_NCHW[:count])).numpy()
    np.testing.assert_allclose([p["probabilities"] for p in predicted["predictions"]], p_BK, atol=1e-5)
    assert [p["label"] for p in predicted["predictions"]] == p_BK.argmax(1).tolist()
    assert [p["probability"] for p in predicted["predictions"]] == [
        max(p["probabilities"]) for p in predicted["predictions"]
    ]


def test_a_png_is_classified(client: httpx.Client) -> None:
    agree(client.post("/predict", content=png(), headers={"content-type": PNG}), 1)


class AtOnce(PredictionWorker):
    """A worker that submits nothing to its thread but the blank image on entry."""

    def submit(self, read: Callable[[], Pixels]) -> Future[PredictionResult]:
        raise QueueFull


def test_one_image_is_predicted_on_the_calling_thread_and_several_on_the_worker_s() -> None:
    with (
        AtOnce(PredictorSnapshots(LEARNER), LAYOUT) as predictions,
        Server(create(predictions), "127.0.0.1", 0) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        while client.post("/predict", content=png(), headers={"content-type": PNG}).status_code == 503:
            time.sleep(0.01)  # the blank image is being answered
        agree(client.post("/predict", content=png(), headers={"content-type": PNG}), 1)
        agree(client.post("/predict", content=X_NCHW[0].tobytes(), headers=AS_RAW), 1)
        assert client.post("/predict", json={"images": [text(0), text(1)]}).status_code == 503
        several = AS_RAW | {"shape": "4,1,8,8"}
        assert client.post("/predict", content=X_NCHW.tobytes(), headers=several).status_code == 503


def test_raw_pixels_of_one_image_or_several_are_classified(client: httpx.Client) -> None:
    agree(client.post("/predict", content=X_NCHW[0].tobytes(), headers=AS_RAW), 1)
    several = AS_RAW | {"shape": "4,1,8,8"}
    agree(client.post("/predict", content=X_NCHW.tobytes(), headers=several), 4)


def test_a_json_batch_is_classified_in_order(client: httpx.Client) -> None:
    agree(client.post("/predict", json={"images": [text(i) for i in range(4)]}), 4)


VECTORS = Layout(features=3, classes=3)
OF_VECTORS = Finetune(LearnerContext(VECTORS))
X_NF = np.array([[0.5, -1, 7], [0, 0, 0]], np.float32)
AS_VECTORS = {"content-type": RAW, "dtype": "float32", "shape": "2,3"}


@pytest.fixture(scope="module")
def of_vectors() -> Iterator[httpx.Client]:
    with PredictionWorker(PredictorSnapshots(OF_VECTORS), VECTORS) as predictions:
        app = create(predictions, layout=VECTORS)
        with Server(app, "127.0.0.1", 0) as server, httpx.Client(base_url=server.address) as client:
            yield client


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"vectors": X_NF.tolist()}},
        {"content": X_NF.tobytes(), "headers": AS_VECTORS},
        {"content": X_NF[0].tobytes(), "headers": AS_VECTORS | {"shape": "3"}},
    ],
    ids=["json", "raw", "one"],
)
def test_vectors_are_classified(request_: dict[str, Any], of_vectors: httpx.Client) -> None:
    answer = of_vectors.post("/predict", **request_)
    assert answer.status_code == 200, answer.text
    found = [p["probabilities"] for p in answer.json()["predictions"]]
    p_BK = OF_VECTORS.predict_proba(torch.from_numpy(X_NF[: len(found)])).numpy()
    np.testing.assert_allclose(found, p_BK, atol=1e-5)


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        ({"json": {"vectors": [[1, 2]]}}, 422, "vectors.0: 2 numbers, expected 3"),
        ({"json": {"vectors": [[1, 2, 1e39]]}}, 422, "too large for float32"),
        ({"json": {"vectors": [[1, 2, "x"]]}}, 422, "vectors.0.2"),
        ({"json": {"images": [text()]}}, 422, "vectors: Field required"),
        (
            {"content": b'{"vectors": [[1, 2, NaN]]}', "headers": {"content-type": "application/json"}},
            422,
            "",
        ),
        (
            {"content": np.full(3, np.inf, "<f4").tobytes(), "headers": AS_VECTORS | {"shape": "3"}},
            422,
            "finite",
        ),
        ({"content": bytes(5), "headers": AS_VECTORS}, 422, "5 bytes, but shape 2,3 has 24"),
        ({"content": png(), "headers": {"content-type": PNG}}, 415, "octet-stream, application/json"),
    ],
)
def test_a_bad_request_for_vectors_is_answered_with_the_reason(
    request_: dict[str, Any], status: int, detail: str, of_vectors: httpx.Client
) -> None:
    answer = of_vectors.post("/predict", **request_)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_a_format_of_the_stream_is_a_kind_of_body() -> None:
    layout = Layout(channels=1, height=2, width=4, formats="jpeg")
    assert kinds(layout) == (PNG, RAW, "application/json", "image/jpeg")
    read, single = reader(GREY_JPEG, {"content-type": "Image/JPEG; q=1"}, layout)
    assert read is not None
    assert single
    assert read().shape == (1, 1, 2, 4)
    assert reader(WEBP, {"content-type": "image/webp"}, layout) == (None, False)


DAMAGED = png()[:-30] + bytes([png()[-30] ^ 4]) + png()[-29:]
"""One bit of the compressed rows is another."""
BROKEN = {
    "damaged": ({"content": DAMAGED, "headers": {"content-type": PNG}}, 422, "PNG: the checksum"),
    "cut short": ({"content": png()[:-12], "headers": {"content-type": PNG}}, 422, "PNG: it ends before"),
    "one damaged of two": (
        {"json": {"images": [text(), base64.b64encode(DAMAGED).decode()]}},
        422,
        "images.1: PNG: the checksum",
    ),
    "no PNG": ({"content": b"\x89PNG, but no", "headers": {"content-type": PNG}}, 422, "not a PNG"),
    "no body": ({"headers": {"content-type": PNG}}, 422, "not a PNG"),
    "wrong number of bytes": (
        {"content": b"1234", "headers": AS_RAW},
        422,
        "4 bytes, but shape 1,8,8 has 64",
    ),
    "no shape": ({"content": bytes(64), "headers": {**AS_RAW, "shape": ""}}, 422, "shape"),
    "other shape": ({"content": bytes(64), "headers": {**AS_RAW, "shape": "1,4,16"}}, 422, "shape"),
    "other dtype": ({"content": bytes(64), "headers": {**AS_RAW, "dtype": "float32"}}, 422, "dtype"),
    "fewer than said": (
        {"content": bytes(64), "headers": {**AS_RAW, "shape": "2,1,8,8"}},
        422,
        "shape 2,1,8,8 has 128",
    ),
    "too many raw": (
        {"content": bytes(64 * 257), "headers": {**AS_RAW, "shape": "257,1,8,8"}},
        422,
        f"shape: 257 samples, at most {MAX_IMAGES}",
    ),
    "no type": ({"content": b"x"}, 415, "content-type"),
    "other type": ({"content": b"x", "headers": {"content-type": "image/jpeg"}}, 415, "content-type"),
    "no JSON": (
        {"content": b"{", "headers": {"content-type": "application/json"}},
        422,
        "body: Invalid JSON",
    ),
    "no images": ({"json": {"pictures": []}}, 422, "images: Field required; pictures: Extra inputs"),
    "empty batch": ({"json": {"images": []}}, 422, "images: List should have at least 1"),
    "too many": ({"json": {"images": [""] * 257}}, 422, "images: List should have at most 256"),
    "no Base64": ({"json": {"images": [text(), "-"]}}, 422, "images.1: not Base64"),
    "one bad of two": ({"json": {"images": [text(), "AAAA"]}}, 422, "images.1: not a PNG"),
    "large image": ({"content": bytes(5_001), "headers": {"content-type": PNG}}, 422, "at most 5000"),
    "large body": ({"content": bytes(20_001), "headers": AS_RAW}, 413, "serve.max_body_bytes, 20000"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_bad_request_is_answered_with_the_reason(case: str, client: httpx.Client) -> None:
    request, status, detail = BROKEN[case]
    answer = client.post("/predict", **request)  # type: ignore[arg-type] # keywords of several types
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


def test_requests_are_counted_by_status_and_predictions_timed_on_both_paths() -> None:
    registry = CollectorRegistry()

    def asked(status: int) -> float | None:
        return registry.get_sample_value("lethe_predict_requests_total", {"status": str(status)})

    with (
        PredictionWorker(PredictorSnapshots(LEARNER), LAYOUT) as predictions,
        Server(create(predictions, TOKEN, registry), "127.0.0.1", 0) as server,
        httpx.Client(base_url=server.address) as client,
    ):
        assert {asked(status) for status in (200, 401, 408, 413, 415, 422, 500, 503)} == {0}
        assert client.post("/predict", content=png(), headers={"content-type": PNG}).status_code == 401
        client.headers["authorization"] = f"Bearer {TOKEN}"
        agree(client.post("/predict", content=png(), headers={"content-type": PNG}), 1)
        agree(client.post("/predict", json={"images": [text(0), text(1)]}), 2)
        for case in ("no PNG", "no type", "large body"):
            client.post("/predict", **BROKEN[case][0])  # type: ignore[arg-type] # keywords of several types
        assert client.get("/predict").status_code == 405
    counts = {status: asked(status) for status in (200, 401, 413, 415, 422, 500)}
    assert counts == {200: 2, 401: 1, 413: 1, 415: 1, 422: 1, 500: 0}
    assert registry.get_sample_value("lethe_predict_duration_seconds_count") == 2
    assert 0 < (registry.get_sample_value("lethe_predict_duration_seconds_sum") or 0) < 10


def test_a_body_of_unknown_length_is_rejected_once_it_is_too_long(client: httpx.Client) -> None:
    answer = client.post("/predict", content=(bytes(1000) for _ in range(30)), headers=AS_RAW)
    assert answer.status_code == 413


def test_predict_is_the_first_route(client: httpx.Client) -> None:
    assert next(iter(client.get("/openapi.json").json()["paths"])) == "/predict"


LOCKED = ["/state", "/metrics", "/events"]
UNDESCRIBED = ["/openapi.json", "/plotly.js"]
OPEN = ["/", "/plot.js", "/page.js", "/page.css", "/base.css", "/report.css", "/icon.svg", "/livez"]


@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"]
)
def test_without_the_token_nothing_about_the_run_is_served(
    locked: httpx.Client, authorization: str | None
) -> None:
    headers = httpx.Headers({} if authorization is None else {"authorization": authorization}, "utf-8")
    for path in LOCKED + UNDESCRIBED:
        answer = locked.get(path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.post("/predict", content=png(), headers=headers).status_code == 401


def test_with_the_token_everything_is_served(locked: httpx.Client) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    for path in ("/state", "/metrics", *UNDESCRIBED):
        assert locked.get(path, headers=headers).status_code == 200
    agree(locked.post("/predict", content=png(), headers={"content-type": PNG, **headers}), 1)


def test_health_and_the_empty_page_need_no_token(locked: httpx.Client) -> None:
    for path in OPEN:
        assert locked.get(path).status_code == 200, path
    assert locked.get("/readyz").status_code == 503, "no broker, but no question of a token"


def test_the_description_names_what_the_token_protects(client: httpx.Client, locked: httpx.Client) -> None:
    described = locked.get("/openapi.json", headers={"authorization": f"Bearer {TOKEN}"})
    paths = described.json()["paths"]
    protected = {path for path, calls in paths.items() if any("security" in call for call in calls.values())}
    assert protected == {*LOCKED, "/predict"}
    assert "security" not in client.get("/openapi.json").text


def test_the_token_is_the_content_of_its_file_without_the_newline(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert read_token(path) == TOKEN


@pytest.mark.parametrize(
    "content", ["", "short", "sixteen or more characters with spaces", "ü" * 20, "a" * 20 + "\x01"]
)
def test_a_file_without_a_token_is_an_error_that_names_the_setting(content: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidSetting, match=r"serve\.token_file .*token"):
        read_token(path)


def test_a_missing_token_file_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"serve\.token_file .* cannot be read"):
        read_token(tmp_path / "none")


def test_the_page_loads_from_the_service_only_and_its_policy_blocks_all_else(
    client: httpx.Client,
) -> None:
    page = client.get("/")
    assert "http" not in page.text, "no address of another host"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_plotly_is_the_installed_version_and_is_sent_compressed(client: httpx.Client) -> None:
    packed = client.get("/plotly.js")
    assert packed.headers["content-encoding"] == "gzip"
    assert "immutable" in packed.headers["cache-control"]
    plain = client.get("/plotly.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content
    assert b"plotly.js v" in plain.content[:200]
