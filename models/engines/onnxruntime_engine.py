"""ONNX Runtime as an engine: float32, on the CPU, or on a GPU where its CUDA provider is installed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models.engines.engine import FLOAT32, Engine, EngineError, Network, Prediction
from models.engines.normalised_graph import export_to, output_number, with_normalisation

if TYPE_CHECKING:
    import onnxruntime

_CUDA = "CUDAExecutionProvider"
_ERRORS_ONLY = 3


class OnnxruntimeEngine(Engine):
    """Runs an exported module or an ONNX file; any batch size, unless the file fixes it.

    Raises:
        EngineError: the precision is not float32, or the ONNX file does not fit `Network`.
    """

    def __init__(self, network: Network, precision: str, *, device: str, threads: int) -> None:
        super().__init__(f"onnxruntime-{precision}", network)
        if precision != FLOAT32:
            raise EngineError(f"{self.name}: it computes in {FLOAT32} only")
        if network.module is not None and network.features is not None:
            raise EngineError(f"{self.name}: features of a module come from torch engines only")
        self._session = _session(network, device, threads)
        images = self._session.get_inputs()[0]
        self._input = images.name
        self.block = images.shape[0] if isinstance(images.shape[0], int) else None
        outputs = [output.name for output in self._session.get_outputs()]
        self._wanted = outputs[:1]
        if network.features is not None:
            self._wanted.append(outputs[output_number(network, ([name] for name in outputs))])

    def _infer(self, images_BSS3: np.ndarray) -> Prediction:
        found = [np.asarray(a, dtype=np.float32) for a in self._session.run(self._wanted, {self._input: images_BSS3})]
        return Prediction(*found)

    def close(self) -> None:
        """Drop the session."""
        del self._session


def _session(network: Network, device: str, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    # Spinning threads take cores from other workers and from threads that render.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device == "cuda" and _CUDA in onnxruntime.get_available_providers():
        # TF32 is not float32.
        providers.insert(0, (_CUDA, {"use_tf32": "0"}))
    if network.module is None:
        assert network.onnx is not None
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(network.onnx.absolute().parent)
        )
        return onnxruntime.InferenceSession(with_normalisation(network), options, providers)
    torch.set_num_threads(threads)
    with TemporaryDirectory(prefix="stillroom-onnx-") as folder:
        file = Path(folder) / "network.onnx"
        export_to(file, network)
        return onnxruntime.InferenceSession(str(file), options, providers)
