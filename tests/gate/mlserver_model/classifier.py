"""A model for MLServer: the bundle's classifier by ONNX Runtime. It runs in MLServer's own virtual environment.

`parameters.extra` of its settings: with `labels` it gives labels in the place of scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime  # noqa: TID251 - not in our process
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Classifier(MLModel):
    """uint8 (N, H, W, 3) or float (N, 3, H, W) in, logits (N, classes) out."""

    async def load(self) -> bool:
        """Open the network."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._network = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Classify a batch."""
        (tensor,) = payload.inputs
        values = np.array(tensor.data.root, np.float32).reshape(tensor.shape)
        if tensor.datatype == "UINT8":
            values = values.transpose(0, 3, 1, 2) / np.float32(255)
        extra: dict[str, Any] = self.settings.parameters.extra or {}
        logits = self._network.run(None, {self._network.get_inputs()[0].name: values})[0]
        if extra.get("labels"):
            data, datatype, shape = logits.argmax(axis=1).tolist(), "INT64", [len(logits), 1]
        else:
            data, datatype, shape = logits.reshape(-1).tolist(), "FP32", list(logits.shape)
        output = ResponseOutput(name=self.settings.outputs[0].name, datatype=datatype, shape=shape, data=data)
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=[output])
