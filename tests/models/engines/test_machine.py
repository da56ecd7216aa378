"""The kind of machine that a choice holds for."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch

from models.engines import machine_kind


def test_it_names_threads_and_libraries_but_not_the_host() -> None:
    kind = machine_kind("cpu", 3)
    for part in ("3 threads", f"torch {torch.__version__}", f"openvino {version('openvino')}", "onnxruntime"):
        assert part in kind
    assert platform.node() not in kind


def test_other_threads_are_another_kind() -> None:
    assert machine_kind("cpu", 1) != machine_kind("cpu", 2)
    assert machine_kind("cpu", 2) == machine_kind("cpu", 2)
