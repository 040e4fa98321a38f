"""With memory scrubbing, /predict leaves nothing of an image in memory, with any response."""

import base64
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch

from lethe.experiments.bench.memory_search import Needles, find_in_memory
from lethe.ingest.scrubbing import SETTINGS
from lethe.wire import PNG, RAW, Layout, Pixels, Sample, encode
from tests.support.waiting import until

SERVER = """
import sys
from lethe.learners.base import LearnerContext
from lethe.learners.gradient.finetune import Finetune
from lethe.web.prediction_worker import PredictionWorker
from lethe.web.predictor_snapshots import PredictorSnapshots
from lethe.web.server import Server
from lethe.wire import Layout
from tests.support.predicting import create

layout = Layout()
with PredictionWorker(PredictorSnapshots(Finetune(LearnerContext(layout))), layout) as predictions:
    with Server(create(predictions, layout=layout), "127.0.0.1", 0) as server:
        print(server.address, flush=True)
        sys.stdin.readline()
"""
LAYOUT = Layout()
RAW_HEADERS = {"content-type": RAW, "dtype": "uint8", "shape": "1,28,28"}


@contextmanager
def served(settings: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.pid, process.stdout.readline().strip()
        process.communicate("\n")


def png(x_CHW: Pixels) -> bytes:
    return encode(Sample(x_CHW, 0), PNG)[0]


def text(x_CHW: Pixels) -> bytes:
    return base64.b64encode(png(x_CHW))


class Visit:
    """A client that sends a new image each time, and knows the forms in which it could be found."""

    def __init__(self, address: str) -> None:
        self._address, self._rng = address, np.random.default_rng()
        self._staying = httpx.Client()
        self.forms: dict[str, bytes] = {}

    def close(self) -> None:
        self._staying.close()

    def image(self, name: str) -> Pixels:
        x_CHW = self._rng.integers(0, 256, LAYOUT.shape, np.uint8)
        float_CHW = torch.from_numpy(x_CHW).to(torch.float32)
        self.forms |= {
            f"{name}, raw": x_CHW.tobytes(),
            f"{name}, PNG": png(x_CHW),
            f"{name}, Base64": text(x_CHW),
            f"{name}, floats": float_CHW.mul(2 / 255).sub(1).numpy().tobytes(),
        }
        return x_CHW

    def ask(self, status: int, body: bytes, headers: Mapping[str, str], path: str = "/predict") -> None:
        for post in (httpx.post, self._staying.post):
            answer = post(self._address + path, content=body, headers=dict(headers), timeout=30)
            assert answer.status_code == status, answer.text

    def ask_in_every_way(self) -> None:
        json, raw = {"content-type": "application/json"}, RAW_HEADERS
        self.ask(200, self.image("raw").tobytes(), raw)
        self.ask(200, self.image("several").tobytes() * 3, raw | {"shape": "3,1,28,28"})
        self.ask(200, png(self.image("picture")), {"content-type": PNG})
        self.ask(200, b'{"images": ["%s"]}' % text(self.image("JSON")), json)
        self.ask(422, b'{"images": ["%s", "?"]}' % text(self.image("half good JSON")), json)
        self.ask(422, b'{"images": ["%s\\n"' % text(self.image("no JSON")), json)
        self.ask(422, self.image("wrong shape").tobytes(), raw | {"shape": "1,1,1"})
        self.ask(422, png(self.image("damaged")) + b"more", {"content-type": PNG})
        self.ask(415, self.image("wrong type").tobytes(), {"content-type": "text/plain"})
        self.ask(413, self.image("too long").tobytes() * 50, raw | {"shape": "50,1,28,28"})
        self.ask(405, self.image("elsewhere").tobytes() * 50, raw, "/state")


@pytest.mark.parametrize("scrubs", [True, pytest.param(False, marks=pytest.mark.long)])
def test_nothing_of_an_image_remains_in_memory_in_any_form(scrubs: bool) -> None:
    with served(SETTINGS if scrubs else {}) as (pid, address):
        visit = Visit(address)
        visit.ask_in_every_way()
        needles = Needles.of(**visit.forms)
        if scrubs:
            until(lambda: find_in_memory(pid, needles) == set(), "nothing is left")
        else:
            time.sleep(1)
            assert len(find_in_memory(pid, needles)) > 3, "the search finds nothing: it tests nothing"
        visit.close()


def test_an_incomplete_body_is_dropped_with_its_connection() -> None:
    with served(SETTINGS) as (pid, address):
        visit, at = Visit(address), urlsplit(address)
        body = visit.image("half").tobytes()
        needles = Needles.of(**visit.forms)
        with socket.create_connection((at.hostname, at.port), 30) as client:
            client.sendall(
                b"POST /predict HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n" + body
            )
            until(lambda: "half, raw" in find_in_memory(pid, needles), "it is there")
        until(lambda: find_in_memory(pid, needles) == set(), "it is gone")
        visit.close()
