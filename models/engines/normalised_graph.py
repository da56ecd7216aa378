"""Networks as graphs that take uint8 images: a torch module or an ONNX file, with the input's normalisation in front.

The normalisation is one multiplication and one subtraction, rounded as `models.augmentation.rendering.to_input` rounds
them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from models.engines.engine import EngineError, Network, in_short, quiet
from models.networks.taps import POOLED, Taps, shapes

if TYPE_CHECKING:
    import onnx

IMAGES = "stillroom_images"
"""Name of the input of the ONNX graphs that are made here."""


class Normalised(nn.Module):
    """uint8 [B, S, S, 3] -> logits, or (logits, features) where features were requested.

    Features are read by hooks (`models.networks.taps`), so that the logits are those of the network's own `forward`.
    The caller's module stays unchanged but for the strides of its weights: hooks and exporters' attributes go to a copy
    of it, which shares the weights on a CPU.

    Raises:
        EngineError: the network has no such tap, or its output is not one row an image; the text says why.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, device: str = "cpu") -> None:
        super().__init__()
        if network.module is None:
            raise EngineError("only a torch module can be run, traced or exported by torch")
        weights = [*network.module.parameters(), *network.module.buffers()] if device == "cpu" else []
        with quiet():
            self.module = copy.deepcopy(network.module, {id(weight): weight for weight in weights})
        mean = torch.tensor(network.mean, dtype=torch.float64)
        std = torch.tensor(network.std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * std)).float().view(1, 3, 1, 1))
        self.register_buffer("shift", (mean / std).float().view(1, 3, 1, 1))
        self._taps: Taps | None = None
        if network.features is not None:
            try:
                shapes(self.module, [network.features], network.size)
                self._taps = Taps(self.module, [network.features])
            except ValueError as error:
                raise EngineError(f"features: {error}") from error
        self.to(device)

    def forward(self, images_BSS3: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Logits [B, C] of uint8 images [B, S, S, 3], with the features where there are any."""
        # The permuted view of NHWC bytes is channels_last already.
        x_B3SS = images_BSS3.permute(0, 3, 1, 2).float() * self.scale - self.shift
        logits_BC: Tensor = self.module(x_B3SS)
        if self._taps is None:
            return logits_BC
        (features,) = self._taps.take().values()
        return logits_BC, features


def export_to(file: Path, network: Network) -> None:
    """Write a module as an ONNX file that takes uint8 [B, S, S, 3] for any B; large weights go to a second file."""
    side = network.size
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    module = Normalised(network).eval()
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            input_names=[IMAGES],
            verbose=False,
        )
    assert program is not None
    program.save(file)


def with_normalisation(network: Network) -> bytes:
    """The network's ONNX file as a graph that takes uint8 [B, S, S, 3]; weights in other files stay there.

    Raises:
        EngineError: the file is not ONNX, or does not take one float32 [B, 3, S, S].
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    assert network.onnx is not None
    try:
        model = onnx.load(str(network.onnx), load_external_data=False)
    except Exception as error:
        # The protocol buffer parser raises its own exception classes.
        raise EngineError(f"{network.onnx}: cannot be read as ONNX: {in_short(error)}") from error
    graph = model.graph
    given = _input(model, network)
    batch = given.type.tensor_type.shape.dim[0]
    scale = 1 / (255 * np.asarray(network.std, dtype=np.float64))
    shift = np.asarray(network.mean, dtype=np.float64) / np.asarray(network.std, dtype=np.float64)
    for name, values in (("stillroom_scale", scale), ("stillroom_shift", shift)):
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32).reshape(1, 3, 1, 1), name))
    steps = [
        helper.make_node("Transpose", [IMAGES], ["stillroom_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["stillroom_planes"], ["stillroom_floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["stillroom_floats", "stillroom_scale"], ["stillroom_scaled"]),
        helper.make_node("Sub", ["stillroom_scaled", "stillroom_shift"], [given.name]),
    ]
    nodes = [*steps, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    shape = [batch.dim_value or "batch", network.size, network.size, 3]
    images = helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, shape)
    graph.input.remove(given)
    graph.input.insert(0, images)
    data: bytes = model.SerializeToString()
    return data


def output_number(network: Network, known: Iterable[Iterable[str]]) -> int:
    """Which output of an ONNX file holds the features.

    Args:
        known: the names of each output.
    """
    outputs = [list(names) for names in known]
    for number, names in enumerate(outputs):
        if network.features in names:
            return number
    listed = ", ".join(name for names in outputs for name in names)
    hint = f" ({POOLED!r} is for modules)" if network.features == POOLED else ""
    raise EngineError(f"{network.onnx}: features: no output {network.features!r}{hint}; its outputs are {listed}")


def _input(model: onnx.ModelProto, network: Network) -> onnx.ValueInfoProto:
    from onnx import TensorProto

    weights = {weight.name for weight in model.graph.initializer}
    given = [value for value in model.graph.input if value.name not in weights]
    side = network.size
    if len(given) == 1:
        kind = given[0].type.tensor_type
        # A dimension without a value is free.
        found = [dim.dim_value for dim in kind.shape.dim]
        fits = len(found) == 4 and all(a in (0, b) for a, b in zip(found[1:], (3, side, side), strict=True))
        if kind.elem_type == TensorProto.FLOAT and fits:
            return given[0]
    inputs = ", ".join(
        f"{TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()} "
        f"{[dim.dim_value or dim.dim_param or '?' for dim in value.type.tensor_type.shape.dim]}"
        for value in given
    )
    raise EngineError(f"{network.onnx}: takes {inputs or 'nothing'}; it must take one float [B, 3, {side}, {side}]")
