"""The kind of machine and software that measured rates and choices of engines are valid for; imports no torch."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Instruction sets that decide which kernels the libraries use; x86 and ARM.
_FLAGS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "bf16", "i8mm", "sve", "sve2"),
)


_CPUINFO = Path("/proc/cpuinfo")


def machine_kind(device: str, threads: int) -> str:
    """The kind of machine and software for which a selection is valid; the host name is no part of it.

    Args:
        device: cpu or cuda.
        threads: CPU threads of one pass.
    """
    kind = _gpu() if device == "cuda" else _cpu()
    libraries = [f"{name} {found}" for name in ("torch", "onnxruntime", "openvino") if (found := _version(name))]
    return ", ".join([kind, f"{threads} threads", *libraries])


def _gpu() -> str:
    import torch

    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} {major}.{minor}"


def _cpu() -> str:
    facts: dict[str, str] = {}
    if _CPUINFO.is_file():
        # The block of the first processor; the others repeat it.
        for line in _CPUINFO.read_text().split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            facts[name.strip()] = value.strip()
    # Cloud machines hide the model's name, but not family and model.
    model = [facts[name] for name in ("model name", "cpu family", "model", "CPU part") if name in facts]
    known = set((facts.get("flags") or facts.get("Features") or "").split())
    return " ".join([*(model or [platform.machine()]), *(flag for flag in _FLAGS if flag in known)])


def _version(name: str) -> str | None:
    for package in (name, f"{name}-gpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
