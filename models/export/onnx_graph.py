"""A network as one ONNX file that takes whole uint8 images: normalisation inside, any batch size, weights inside."""

from __future__ import annotations

import torch

from models.engines.engine import Network, in_short, quiet
from models.engines.normalised_graph import Normalised
from models.networks.weight_files import EXPORTING

OPSET = 18
"""Version of ONNX's operators: what torch's exporter writes natively, so that nothing is converted."""

IR = 10
"""Version of the file format (ONNX 1.16); readers refuse files of a later one than theirs."""

INPUT, OUTPUT, BATCH = "image", "logits", "batch"
"""Names in the graph: of the input, of the output and of their free dimension."""


def export_onnx(network: Network) -> bytes:
    """Export a network for any batch size.

    Args:
        network: of a module, without features.

    Returns:
        An ONNX file of `OPSET` and `IR` with the input `image`, uint8 [batch, S, S, 3], RGB, and the output `logits`,
        float32 [batch, C]. It holds no code, no paths and no time: the same network gives the same bytes.

    Raises:
        ValueError: the network cannot be exported with a free batch size, or its weights exceed the 2 GB of one file.
    """
    side = network.size
    # Two rows: torch.export treats a batch of one as a constant.
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    module = Normalised(network).eval()
    with EXPORTING, torch.no_grad(), quiet():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim(BATCH, min=1)},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
        # The exporter wraps whatever failed in classes of its own.
        except Exception as error:
            raise ValueError(f"cannot be exported as ONNX for any batch size: {in_short(error)}") from error
    assert program is not None
    model = program.model_proto
    found = {entry.domain: entry.version for entry in model.opset_import}
    if found != {"": OPSET} or model.ir_version != IR:
        raise ValueError(f"the exporter wrote IR {model.ir_version}, opsets {found}; expected IR {IR}, opset {OPSET}")
    _forget_origin(model)
    try:
        data: bytes = model.SerializeToString()
    # The protocol buffer library raises a class of its own above 2 GB.
    except Exception as error:
        raise ValueError(f"cannot be written as one ONNX file: {in_short(error)}") from error
    return data


def _forget_origin(model: object) -> None:
    """Drop where in the source code each node came from: it names folders of this machine."""
    pending = [model]
    while pending:
        message = pending.pop()
        for field, value in list(message.ListFields()):  # type: ignore[attr-defined]
            if field.name in ("metadata_props", "doc_string"):
                message.ClearField(field.name)  # type: ignore[attr-defined]
            elif field.type == field.TYPE_MESSAGE:
                pending.extend([value] if hasattr(value, "ListFields") else value)
