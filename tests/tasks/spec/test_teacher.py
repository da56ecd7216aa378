"""Teacher sections: what contradicts itself, what enters keys, and whose paths are taken from where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.errors import SpecError
from tasks.spec import TeacherSection, TrainSection, load_spec, parse_spec

TRAIN = {"steps": 1}
INPUT: dict[str, Any] = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}


def section(**values: object) -> TeacherSection:
    return TeacherSection.model_validate({"name": "small", "model": "micro_xs", **values})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"model": "onnx:", **INPUT}, "write it as onnx:FILE"),
        ({"model": "python:package.module"}, "write it as python:package.module:function"),
        ({"model": "models:/eyes"}, "write it as models:/NAME@ALIAS or models:/NAME/VERSION"),
        ({"model": "onnx:net.onnx"}, "an ONNX file does not say what its input is normalised with"),
        ({"model": "onnx:net.onnx", **INPUT, "train": TRAIN}, "`train` means nothing to an ONNX file"),
        ({"model": "onnx:net.onnx", **INPUT, "weights": "pypi"}, "`weights` means nothing to an ONNX file"),
        ({"model": "table:t.parquet", "size": 32}, "`size` means nothing to a table"),
        ({"model": "table:t.parquet", "features": "pooled"}, "`features` means nothing to a table"),
        ({"model": "python:a:b", "features": "pooled"}, "`features` means nothing to a Python function"),
        ({"model": "python:a:b", **INPUT}, "`mean` means nothing to a Python function"),
        ({"model": "models:/eyes/3", "options": {"drop": 1}}, "`options` means nothing to a registered student"),
        ({"model": "micro", "version": "1"}, "`version` means nothing to a network"),
        ({"model": "micro", "mean": [0, 0, 0]}, "give both of mean and std"),
        ({"model": "micro", "mean": [0, 0, 0], "std": [1, 0, 1]}, "std must be above 0"),
        ({"model": "micro", "folds": 3}, "`folds` are trainings; add `train:`"),
        ({"model": "micro", "average": 3}, "`average` is of the report.*add `train:`"),
        ({"model": "table:t.parquet", "average": 3}, "`average` means nothing to a table"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        section(**values)


def test_teachers_that_were_trained_before_are_found() -> None:
    old = {"model", "options", "size", "train"}
    assert section(train=TRAIN).identity().keys() == old
    assert section(train=TRAIN, folds=3, features="pooled", average=4).identity() == section(train=TRAIN).identity()
    assert section(train=TRAIN, **INPUT).identity().keys() == old | {"mean", "std"}


def test_files_are_taken_from_the_folder_of_the_spec(tmp_path: Path) -> None:
    text = """
name: far
store: store
corpus: {adapter: eyepacs, root: images}
teachers:
  - {name: a, model: "onnx:nets/a.onnx", mean: [0, 0, 0], std: [1, 1, 1]}
  - {name: b, model: "table:/data/b.parquet"}
  - {name: c, model: "python:given:make"}
student: {model: micro}
"""
    (tmp_path / "spec.yaml").write_text(text)
    models = [teacher.model for teacher in load_spec(tmp_path / "spec.yaml").teachers]
    assert models == [f"onnx:{tmp_path}/nets/a.onnx", "table:/data/b.parquet", "python:given:make"]


def test_members_are_teachers_that_differ_by_their_seed() -> None:
    section = TeacherSection(name="lite", model="resnet18", members=3, seed=4, train=TrainSection(steps=2))
    assert [(one.name, one.seed, one.members) for one in section.each()] == [
        ("lite-1", 4, None),
        ("lite-2", 5, None),
        ("lite-3", 6, None),
    ]


def test_members_know_the_teacher_that_they_are_together() -> None:
    section = TeacherSection(name="lite", model="resnet18", members=2, train=TrainSection(steps=2))
    assert [one.whole for one in section.each()] == ["lite", "lite"]
    assert (section.whole, section.each()[0].identity()) == ("lite", section.identity())


def test_no_other_teacher_has_the_name_of_an_ensemble(tmp_path: Path) -> None:
    text = """
name: two
store: store
corpus: {adapter: eyepacs, root: images}
teachers: [{name: a, model: micro, members: 2, train: {steps: 2}}, {name: a, model: micro}]
student: {model: micro}
"""
    with pytest.raises(SpecError, match="teacher a and the members of another have one name; rename one"):
        parse_spec(text, base=tmp_path)


def test_a_member_is_trained_as_a_teacher_of_that_seed_is() -> None:
    alone = TeacherSection(name="b", model="resnet18", seed=1, train=TrainSection(steps=2))
    member = TeacherSection(name="a", model="resnet18", members=2, train=TrainSection(steps=2)).each()[1]
    assert (member.identity(), member.seed) == (alone.identity(), alone.seed)


def test_members_without_a_training_are_refused() -> None:
    with pytest.raises(ValidationError, match="add `train:`"):
        TeacherSection(name="a", model="resnet18", members=2)
