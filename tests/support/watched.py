"""A small model server that speaks the protocols of model servers, and a model that is retrained."""

import asyncio
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from PIL import Image

from deploy.kafka.kraft import free_port
from lethe.probeset import ProbeSet

__all__ = ["Model", "model_server", "probes_of", "serving"]


class Model:
    """Recognises the images of the probes that it knows, up to ``wrong``; the label is in the first pixel."""

    def __init__(self, knows: str) -> None:
        self.knows = knows
        self.version = "1"
        self.down = False
        self.requests = 0
        self.slow = 0.0
        """Seconds until it answers."""
        self.token: str | None = None

    def predict(self, x_BCHW: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Probabilities [B, 4]: sure of a probe that it knows, and wrong about any other."""
        x = np.asarray(x_BCHW).reshape(len(x_BCHW), -1)
        probe, label = x[:, 0].astype(int), x[:, 1].astype(int)
        knows = np.isin(probe, [ord(letter) for letter in self.knows])
        p = np.full((len(x), 4), 0.1)
        p[np.arange(len(x)), np.where(knows, label, (label + 1) % 4)] = 0.7
        return p


def probes_of(names: str, images: int = 40) -> list[ProbeSet]:
    """A probe for each letter of ``names``, whose images say which they are and what they show."""
    probes = []
    for name in names:
        y_N = np.arange(images, dtype=np.int64) % 4
        x_NCHW = np.zeros((images, 1, 2, 2), dtype=np.uint8)
        x_NCHW[:, 0, 0, 0], x_NCHW[:, 0, 0, 1] = ord(name), y_N
        probes.append(ProbeSet(name, x_NCHW, y_N, "synthetic", "none needed"))
    return probes


def model_server(model: Model) -> FastAPI:
    """The four protocols, each as its specification says."""
    app = FastAPI()

    async def asked(request: Request) -> None:
        model.requests += 1
        await asyncio.sleep(model.slow)
        if model.token and request.headers.get("authorization") != f"Bearer {model.token}":
            raise HTTPException(401, "who are you")
        if model.down:
            raise HTTPException(503, "being replaced")

    @app.post("/v2/models/digits/infer")
    async def v2(request: Request) -> dict[str, Any]:
        await asked(request)
        (tensor,) = (await request.json())["inputs"]
        assert tensor["datatype"] in {"UINT8", "FP32"}
        p = model.predict(np.array(tensor["data"]).reshape(tensor["shape"]))
        output = {"name": "output", "shape": list(p.shape), "datatype": "FP64", "data": p.ravel().tolist()}
        return {"model_name": "digits", "model_version": model.version, "outputs": [output]}

    @app.post("/v1/models/digits:predict")
    async def v1(request: Request) -> dict[str, Any]:
        await asked(request)
        return {"predictions": model.predict((await request.json())["instances"]).tolist()}

    @app.post("/invocations")
    async def mlflow(request: Request) -> dict[str, Any]:
        await asked(request)
        return {"predictions": model.predict((await request.json())["inputs"]).argmax(axis=1).tolist()}

    @app.post("/predict")
    async def lethe(request: Request) -> dict[str, Any]:
        await asked(request)
        pngs = [b64decode(image) for image in (await request.json())["images"]]
        x = np.stack([np.asarray(Image.open(BytesIO(png)))[None] for png in pngs])
        predictions = [
            {"label": int(row.argmax()), "probability": float(row.max()), "probabilities": row.tolist()}
            for row in model.predict(x)
        ]
        return {"model": {"learner": "finetune", "samples": 7}, "predictions": predictions}

    return app


@contextmanager
def serving(app: FastAPI, **tls: Any) -> Iterator[str]:
    """Serve ``app`` from a thread; yield its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, **tls))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
