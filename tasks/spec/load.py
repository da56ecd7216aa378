"""Reading a spec: YAML, overrides of the form `a.b=value`, and errors that a person can act on."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from infra.errors import SpecError
from tasks.spec.spec import Spec
from tasks.spec.teacher import TeacherSection


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Read a spec file.

    Relative `store`, `corpus.root` and files of weights and teachers are taken from the spec file's folder, so that a
    spec means the same from anywhere.

    Args:
        path: the YAML file.
        overrides: `a.b=value` each, the value parsed as YAML; list items by number (`teachers.0.size=96`).

    Raises:
        SpecError: no such file, no YAML, an unknown key (the nearest known one is named), a wrong value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot read the spec: {error}") from None
    return parse_spec(text, where=str(path), overrides=overrides, base=path.resolve().parent)


def parse_spec(text: str, *, where: str = "spec", overrides: Sequence[str] = (), base: Path | None = None) -> Spec:
    """Like `load_spec`, from text."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise SpecError(f"{where}: a spec is a mapping with the keys name, store, corpus, teachers, student")
    for override in overrides:
        _set(raw, override)
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"{where}: " + "; ".join(_explain(item) for item in error.errors())) from None
    return _anchor(spec, base) if base else spec


def _set(raw: dict[str, Any], override: str) -> None:
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise SpecError(f"--set {override!r}: write it as a.b=value")
    node: Any = raw
    *parents, last = dotted.split(".")
    try:
        parsed = yaml.safe_load(value)
        for name in parents:
            node = node[int(name)] if isinstance(node, list) else node.setdefault(name, {})
        if isinstance(node, list):
            node[int(last)] = parsed
        else:
            node[last] = parsed
    except (ValueError, IndexError, TypeError, AttributeError, yaml.YAMLError):
        raise SpecError(f"--set {override!r}: there is no such place in the spec") from None


def _explain(item: Any) -> str:
    location = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        value = "" if item["type"] == "missing" else f" (got {item['input']!r})"
        return f"{location or 'spec'}: {item['msg']}{value}"
    known = _known_keys(Spec, item["loc"][:-1])
    near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.0)
    return f"unknown key {location}" + (f"; did you mean {near[0]}?" if near else "")


def _known_keys(model: type[BaseModel], location: Iterable[Any]) -> list[str]:
    for part in location:
        if isinstance(part, int):
            continue
        field = next((f for n, f in model.model_fields.items() if part in (n, f.alias)), None)
        inner = _model_within(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_model_within, typing.get_args(annotation)) if m), None)


def _anchor(spec: Spec, base: Path) -> Spec:
    def here(text: str) -> str:
        return text if "://" in text else str(base / Path(text).expanduser())

    def weights(text: str | None) -> str | None:
        return text if text is None or text == "pypi" or text.startswith("store:") else here(text)

    def model(teacher: TeacherSection) -> str:
        if teacher.kind not in ("onnx", "table"):
            return teacher.model
        return f"{teacher.kind}:{here(teacher.target)}"

    return spec.model_copy(
        update={
            "store": here(spec.store),
            "corpus": spec.corpus.model_copy(update={"root": here(spec.corpus.root)}),
            "teachers": [
                t.model_copy(update={"model": model(t), "weights": weights(t.weights)}) for t in spec.teachers
            ],
            "student": spec.student.model_copy(update={"weights": weights(spec.student.weights)}),
        }
    )
