"""Reading a spec: YAML, overrides of the form `a.b=value`, and errors that a person can act on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from infra.compute.preset import describe_error
from infra.errors import SpecError
from infra.secrets import refuse_secrets
from tasks.spec.corpus import CorpusSection
from tasks.spec.learn import StudentSection
from tasks.spec.spec import Spec
from tasks.spec.teacher import TeacherSection
from tasks.spec.train import FROM_TEACHER


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Read a spec file.

    Relative `store`, `root` of corpora and files of weights and teachers are taken from the spec file's folder, so that
    a spec means the same from anywhere.

    Args:
        path: the YAML file.
        overrides: `a.b=value` each, the value parsed as YAML; list items by number (`teachers.0.size=96`).

    Raises:
        SpecError: no such file, no YAML, an unknown key (the nearest known one is named), a wrong value.
        UsageError: a password, key or token stands in it; the text names its place alone.
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
        set_override(raw, override)
    # Before anything quotes or keeps it.
    refuse_secrets(raw)
    if base is not None:
        _anchor_preset(raw, base)
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"{where}: " + "; ".join(describe_error(Spec, item) for item in error.errors())) from None
    return _anchor(spec, base) if base else spec


def set_override(raw: dict[str, Any], override: str) -> None:
    """Change a spec before it is checked, by `a.b=value`; SpecError where there is no such place."""
    dotted, equals, value = override.partition("=")
    if not equals or not dotted:
        raise SpecError(f"--set {dotted!r}: write it as a.b=value")
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
        raise SpecError(f"--set {dotted!r}: there is no such place in the spec") from None


Corpus = TypeVar("Corpus", bound=CorpusSection)
NOT_A_FILE = ("store:", "models:/", FROM_TEACHER)
"""Beginnings of `weights` that are no path."""


def _anchor(spec: Spec, base: Path) -> Spec:
    def here(text: str) -> str:
        return text if "://" in text else str(base / Path(text).expanduser())

    def weights(text: str | None) -> str | None:
        return text if text is None or text == "pypi" or text.startswith(NOT_A_FILE) else here(text)

    def model(teacher: TeacherSection) -> str:
        if teacher.kind not in ("onnx", "table"):
            return teacher.model
        return f"{teacher.kind}:{here(teacher.target)}"

    def corpus(section: Corpus) -> Corpus:
        places = {"root": here(section.root), "corrections": section.corrections and here(section.corrections)}
        return section.model_copy(update=places)

    def student(section: StudentSection) -> StudentSection:
        arms = {name: student(arm) for name, arm in section.arms.items()}
        return section.model_copy(update={"weights": weights(section.weights), "arms": arms})

    return spec.model_copy(
        update={
            "store": here(spec.store),
            "corpus": spec.corpus and corpus(spec.corpus),
            "corpora": spec.corpora and [corpus(entry) for entry in spec.corpora],
            "teachers": [
                t.model_copy(update={"model": model(t), "weights": weights(t.weights)}) for t in spec.teachers
            ],
            "student": student(spec.student),
            "drift": spec.drift.model_copy(update={"predictions": weights(spec.drift.predictions)}),
        }
    )


def _anchor_preset(raw: dict[str, Any], base: Path) -> None:
    """A preset's path, before the section is read; names of packaged presets have neither slash nor suffix."""
    run = raw.get("run")
    cluster = run.get("cluster") if isinstance(run, dict) else None
    if not isinstance(run, dict) or not isinstance(cluster, dict):
        return
    name = cluster.get("preset")
    if isinstance(name, str) and ("/" in name or name.endswith((".yaml", ".yml"))):
        raw["run"] = {**run, "cluster": {**cluster, "preset": str(base / Path(name).expanduser())}}
