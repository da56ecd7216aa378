"""The engines that can run a network on this machine, and opening one by its name."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from models.engines.engine import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    PACKAGES,
    CallEngine,
    Engine,
    EngineError,
    Network,
    in_short,
)

FAMILIES = ("eager", "openvino", "onnxruntime", "compile", "call")
PRECISIONS = (FLOAT32, BFLOAT16, FLOAT16)


def names(network: Network, device: str) -> list[str]:
    """The engines that are installed and can run the network, the quickest to set up first.

    Args:
        device: cpu or cuda.

    Low precisions are listed where the processor has instructions for them. A compiled engine is listed whether or
    not there is a compiler; opening it fails without one.
    """
    if network.call is not None:
        return [f"call-{FLOAT32}"]
    lower = _lower(device)
    found: list[str] = []
    if network.module is not None:
        found += [f"eager-{precision}" for precision in (FLOAT32, *lower)]
    if _openvino(network, device):
        found += [f"openvino-{precision}" for precision in (*_lower("cpu"), FLOAT32)]
    if _onnxruntime(network, device):
        found.append(f"onnxruntime-{FLOAT32}")
    if network.module is not None:
        found += [f"compile-{precision}" for precision in (*lower, FLOAT32)]
    return found


def open_engine(network: Network, name: str, *, device: str, threads: int) -> Engine:
    """Set up an engine.

    Args:
        name: one of `names`.
        device: cpu or cuda.
        threads: CPU threads that one pass may use.

    Raises:
        EngineError: it cannot run this network here; the text says why and, where a package is missing, what to
            install.
    """
    family, _, precision = name.rpartition("-")
    if family not in FAMILIES or precision not in PRECISIONS:
        raise EngineError(f"there is no engine {name!r}; engines here are {', '.join(names(network, device))}")
    if family in PACKAGES and find_spec(family) is None:
        raise EngineError(missing(family))
    try:
        return _open(network, family, precision, device, threads)
    except EngineError:
        raise
    except Exception as error:
        # Exporters and compilers may raise anything; for the caller there is one engine less.
        raise EngineError(f"{name} cannot run this network: {in_short(error)}") from error


def missing(family: str) -> str:
    """The error message for a family that is not installed."""
    return f"{family} is not installed: pip install '{PACKAGES[family]}'"


def _open(network: Network, family: str, precision: str, device: str, threads: int) -> Engine:
    if (family == "call") != (network.call is not None):
        raise EngineError(f"{family}-{precision} cannot run this network: a function runs as call-{FLOAT32} only")
    # Imported when used: the libraries are optional, and each takes seconds to import.
    if family == "eager":
        from models.engines.torch_engines import EagerEngine

        return EagerEngine(network, precision, device=device, threads=threads)
    if family == "compile":
        from models.engines.torch_engines import CompiledEngine

        return CompiledEngine(network, precision, device=device, threads=threads)
    if family == "openvino":
        from models.engines.openvino_engine import OpenvinoEngine

        return OpenvinoEngine(network, precision, threads=threads)
    if family == "onnxruntime":
        from models.engines.onnxruntime_engine import OnnxruntimeEngine

        return OnnxruntimeEngine(network, precision, device=device, threads=threads)
    return CallEngine(network)


def _lower(device: str) -> list[str]:
    """Precisions below float32 that the processor supports."""
    if device == "cuda":
        return [BFLOAT16, FLOAT16] if torch.cuda.is_bf16_supported(including_emulation=False) else [FLOAT16]
    return [BFLOAT16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else []


def _openvino(network: Network, device: str) -> bool:
    # It computes on CPUs: with a GPU it runs only networks that nothing else can run.
    fits = network.onnx is not None or (device == "cpu" and network.features is None)
    return fits and find_spec("openvino") is not None


def _onnxruntime(network: Network, device: str) -> bool:
    if find_spec("onnxruntime") is None or (network.module is not None and network.features is not None):
        return False
    if network.onnx is not None or device == "cpu":
        return True
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
