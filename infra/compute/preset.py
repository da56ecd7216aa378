"""Presets: files with the keys of `run.cluster`, packaged with Stillroom or a site's own."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from infra.errors import UsageError

FOLDER = Path(__file__).parent / "presets"


def names() -> list[str]:
    """Packaged presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def with_preset(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the preset that `raw["preset"]` names, overridden by the other keys of `raw`.

    Args:
        raw: a section as written; `preset` is a packaged name, or a path when it has a slash or ends in .yaml,
            relative to the working directory.

    Raises:
        UsageError: no such preset or file, no YAML mapping, a preset that names a preset.
    """
    name = str(raw["preset"])
    own = "/" in name or name.endswith((".yaml", ".yml"))
    path = Path(name).expanduser() if own else FOLDER / f"{name}.yaml"
    try:
        keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if own:
            raise UsageError(f"cluster.preset: there is no file {path.absolute()}") from None
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
        raise UsageError(
            f"cluster.preset: no packaged preset {name}; did you mean {near[0]}? There are {', '.join(names())}; "
            "a file of your own is named by its path"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cluster.preset: cannot read {path}: {error}") from None
    if not isinstance(keys, dict) or "preset" in keys:
        raise UsageError(f"{path}: a preset is a mapping with the keys of run.cluster, without `preset`")
    return _merged(keys, {key: value for key, value in raw.items() if key != "preset"})


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(typing.cast("Mapping[str, Any]", below), value) if both else value
    return merged


def describe_error(model: type[BaseModel], item: Any) -> str:
    """One of pydantic's errors as a sentence; an unknown key comes with the nearest known one."""
    location = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        value = "" if item["type"] == "missing" or not item["loc"] else f" (got {item['input']!r})"
        return f"{location or 'spec'}: {item['msg']}{value}"
    near = difflib.get_close_matches(str(item["loc"][-1]), known_keys(model, item["loc"][:-1]), n=1, cutoff=0.0)
    return f"unknown key {location}" + (f"; did you mean {near[0]}?" if near else "")


def known_keys(model: type[BaseModel], location: Iterable[Any]) -> list[str]:
    """Keys that the model knows at a place within it."""
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
