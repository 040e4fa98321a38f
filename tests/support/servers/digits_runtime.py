"""A runtime for MLServer: a linear model whose weights are in an .npz file."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

__all__ = ["Digits"]


class Digits(MLModel):  # type: ignore[misc] # MLServer is in another environment
    """Returns the probability of each class."""

    async def load(self) -> bool:
        """Read the weights."""
        with np.load(self.settings.parameters.uri) as weights:
            self._weights, self._bias = weights["weights"], weights["bias"]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Classify images of shape [B, 784]."""
        scores_BK = NumpyCodec.decode_input(payload.inputs[0]) @ self._weights + self._bias
        p_BK = np.exp(scores_BK - scores_BK.max(axis=1, keepdims=True))
        p_BK /= p_BK.sum(axis=1, keepdims=True)
        output = NumpyCodec.encode_output("probabilities", p_BK)
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[output])
