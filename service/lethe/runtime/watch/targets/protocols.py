"""The protocols of model servers: how a request is written, and an answer read.

They are public: KServe's Open Inference Protocol (v2, also Triton's, MLServer's and TorchServe's), KServe v1
(also TensorFlow Serving's), MLflow's scoring server, and Lethe's own ``/predict``.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final, Protocol

import numpy as np

from lethe.errors import TargetUnavailable, UnexpectedAnswer
from lethe.runtime.watch.targets.target import Answers, Form, read_outputs
from lethe.wire import Pixels
from lethe.wire.png import encode_png

__all__ = ["PROTOCOLS", "WireProtocol"]

_DATATYPES: Final = {"uint8": "UINT8", "float32": "FP32"}


class WireProtocol(Protocol):
    """How images become the JSON of a request, and the JSON of a response becomes answers."""

    def request(self, x_BCHW: Pixels, form: Form) -> dict[str, Any]:
        """Return the body of a request."""

    def answers(self, body: object, asked: tuple[int, ...]) -> Answers:
        """Return the answers to a request of shape ``asked``. Raises UnexpectedAnswer."""


class KServeV2:
    """``POST …/v2/models/NAME/infer``: the first output counts, and ``model_version`` is the version."""

    def request(self, x_BCHW: Pixels, form: Form) -> dict[str, Any]:
        """Return one input tensor, in row-major order."""
        x = form.apply(x_BCHW)
        tensor = {"name": "input", "shape": list(x.shape), "datatype": _DATATYPES[x.dtype.name]}
        return {"inputs": [tensor | {"data": x.ravel().tolist()}]}

    def answers(self, body: object, asked: tuple[int, ...]) -> Answers:
        """Return the first output tensor."""
        outputs = _member(body, "outputs", asked)
        if not isinstance(outputs, list) or not outputs:
            raise _no_answer(body, "a list of output tensors in outputs", asked)
        data, shape = _member(outputs[0], "data", asked), _member(outputs[0], "shape", asked)
        try:
            tensor = np.asarray(data).reshape(shape)
        except (TypeError, ValueError) as error:
            raise UnexpectedAnswer(
                f"asked with shape {list(asked)}, answered with shape {shape}, which its data does not fit: "
                f"{error}"
            ) from error
        version = body.get("model_version") if isinstance(body, Mapping) else None
        return read_outputs(tensor, asked, version if version is None else str(version))


class KServeV1:
    """``POST …/v1/models/NAME:predict``: instances in, predictions out."""

    def request(self, x_BCHW: Pixels, form: Form) -> dict[str, Any]:
        """Return one instance for each image."""
        return {"instances": form.apply(x_BCHW).tolist()}

    def answers(self, body: object, asked: tuple[int, ...]) -> Answers:
        """Return the predictions."""
        return read_outputs(_member(body, "predictions", asked), asked)


class MLflow:
    """``POST /invocations`` of ``mlflow models serve``: inputs as an array, predictions out."""

    def request(self, x_BCHW: Pixels, form: Form) -> dict[str, Any]:
        """Return the images as a tensor input."""
        return {"inputs": form.apply(x_BCHW).tolist()}

    def answers(self, body: object, asked: tuple[int, ...]) -> Answers:
        """Return the predictions."""
        return read_outputs(_member(body, "predictions", asked), asked)


class LethePredict:
    """``POST /predict`` of another Lethe: PNGs in Base64; it takes no other form of images."""

    def request(self, x_BCHW: Pixels, form: Form) -> dict[str, Any]:
        """Return each image as a PNG. Raises TargetUnavailable for vectors."""
        del form
        if x_BCHW.dtype != np.uint8:
            raise TargetUnavailable(
                "the probes hold vectors, which cannot be sent as PNGs: use --protocol kserve-v2"
            )
        images = x_BCHW.astype(np.uint8, copy=False)
        return {"images": [base64.b64encode(encode_png(x_CHW)).decode() for x_CHW in images]}

    def answers(self, body: object, asked: tuple[int, ...]) -> Answers:
        """Return the probabilities of each prediction."""
        predictions = _member(body, "predictions", asked)
        if not isinstance(predictions, list):
            raise _no_answer(body, "a list in predictions", asked)
        return read_outputs([_member(one, "probabilities", asked) for one in predictions], asked)


PROTOCOLS: Final[Mapping[str, WireProtocol]] = {
    "kserve-v2": KServeV2(),
    "kserve-v1": KServeV1(),
    "mlflow": MLflow(),
    "lethe": LethePredict(),
}
"""Every protocol, by the name that ``--protocol`` takes."""


def _member(body: object, key: str, asked: tuple[int, ...]) -> Any:
    if not isinstance(body, Mapping) or key not in body:
        raise _no_answer(body, f"an object with {key}", asked)
    return body[key]


def _no_answer(body: object, expected: str, asked: tuple[int, ...]) -> UnexpectedAnswer:
    kind = f"keys {', '.join(map(str, body))}" if isinstance(body, Mapping) else type(body).__name__
    return UnexpectedAnswer(f"asked with shape {list(asked)}, answered with {kind}; expected {expected}")
