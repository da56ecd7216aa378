"""From a teacher's file or entry point to a network that an engine can run, on a worker."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from infra.errors import UsageError
from infra.storage.store import Store
from models.engines.engine import Network
from models.networks.build import build
from models.networks.weight_files import load_pt2
from tasks.data.weights import PYPI, WeightsRef, weights_file
from tasks.teachers.onnx_file import check_onnx, onnx_facts
from tasks.teachers.teacher import TeacherModel


def load_teacher(teacher: TeacherModel, weights: WeightsRef, store: Store) -> Network:
    """Load a teacher.

    Args:
        weights: the teacher's own or those of one of its folds.

    Raises:
        UsageError: it cannot be loaded, or predicts other classes than the corpus's; the teacher is named.
        CorruptError: a file is not the one that the run began with.
    """
    path = weights_file(weights, teacher.model or teacher.name, store)
    load = {"network": _network, "graph": _graph, "onnx": _onnx, "python": _python}[teacher.kind]
    try:
        return load(teacher, path, weights.where == PYPI)
    except UsageError as error:
        raise UsageError(f"teacher {teacher.name}: {error}") from error


def _network(teacher: TeacherModel, path: Path | None, pypi: bool) -> Network:
    try:
        built = build(
            teacher.model,
            num_classes=teacher.num_classes,
            options=teacher.options,
            weights=None if pypi else path,
            pypi=pypi,
            size=teacher.size,
        )
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    if built.head_reset:
        raise UsageError(
            f"the head of its weights has other classes than the corpus's {teacher.num_classes}; add `train:` to "
            "fine-tune it"
        )
    return Network(
        size=teacher.size,
        mean=teacher.mean or built.mean,
        std=teacher.std or built.std,
        num_classes=teacher.num_classes,
        module=built.module,
        features=teacher.features,
    )


def _graph(teacher: TeacherModel, path: Path | None, _: bool) -> Network:
    assert path is not None
    try:
        module = load_pt2(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"its graph {path}: {error}") from None
    return Network(**_input(teacher), module=module)


def _onnx(teacher: TeacherModel, path: Path | None, _: bool) -> Network:
    assert path is not None
    facts = onnx_facts(path)
    if facts is not None:
        check_onnx(facts, size=teacher.size, classes=teacher.num_classes, features=teacher.features)
    return Network(**_input(teacher), onnx=path, features=teacher.features)


def _input(teacher: TeacherModel) -> dict[str, Any]:
    assert teacher.mean is not None
    assert teacher.std is not None
    return {"size": teacher.size, "mean": teacher.mean, "std": teacher.std, "num_classes": teacher.num_classes}


def _python(teacher: TeacherModel, path: Path | None, _: bool) -> Network:
    """The entry point is called with the section's options, and with `weights`, the file's path, where it has one."""
    options = dict(teacher.options) if path is None else {**teacher.options, "weights": path}
    module, name = teacher.model.split(":")
    try:
        call = getattr(import_module(module), name)(**options)
    # Code of others may fail with anything.
    except Exception as error:
        raise UsageError(
            f"the entry point {teacher.model} called with {', '.join(options) or 'nothing'}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not callable(call):
        raise UsageError(f"the entry point {teacher.model} returned {type(call).__name__}, not a function of images")
    # It gets raw pixels; their normalisation is its own.
    return Network(
        size=teacher.size,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        num_classes=teacher.num_classes,
        call=_checked(call, teacher),
    )


def _checked(call: Callable[[np.ndarray], Any], teacher: TeacherModel) -> Callable[[np.ndarray], np.ndarray]:
    def checked(images: np.ndarray) -> np.ndarray:
        logits = np.asarray(call(images), dtype=np.float32)
        expected = (len(images), teacher.num_classes)
        if logits.shape != expected:
            raise UsageError(
                f"teacher {teacher.name}: {teacher.model} returned {list(logits.shape)} for {len(images)} images of a "
                f"corpus with {teacher.num_classes} classes; it has to be {list(expected)}"
            )
        return logits

    return checked
