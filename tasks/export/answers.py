"""Logits of an exported file, as the runtime of its format gives them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from models.augmentation.plain_view import to_input
from models.export.latency import OPENVINO, TORCH, onnxruntime_session, openvino_request
from models.export.onnx_graph import INPUT, OUTPUT
from models.networks.weight_files import load_pt2

_BLOCK = 32
_THREADS = 1  # sums of one order: a format is compared, not timed


def answers(data: bytes, runtime: str, images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Logits float32 [N, C].

    Args:
        data: a `.pt2` archive for torch, else an ONNX file.
        images: uint8 [N, S, S, 3].
        mean, std: what a `.pt2` archive's input is normalised by.
    """
    blocks = [images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK)]
    if runtime == TORCH:
        network, size = load_pt2(data), images.shape[1]
        with torch.inference_mode():
            found = [network(torch.from_numpy(to_input(block, size, mean, std))).numpy() for block in blocks]
    elif runtime == OPENVINO:
        request = openvino_request(data, _THREADS)
        found = [np.array(request.infer({0: block})[0]) for block in blocks]
    else:
        session = onnxruntime_session(data, _THREADS)
        found = [session.run([OUTPUT], {INPUT: block})[0] for block in blocks]
    return np.concatenate(found).astype(np.float32)
