"""`cut` and `head` of a network in a spec."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.spec.learn import StudentSection
from tasks.spec.teacher import TeacherSection

LITE = "tf_efficientnet_lite0"


def test_unset_cut_is_no_part_of_the_identity() -> None:
    assert not {"cut", "head"} & StudentSection(model="micro").identity().keys()
    assert not {"cut", "head"} & TeacherSection(name="a", model="resnet18").identity().keys()


def test_cut_and_head_are_part_of_the_identity() -> None:
    section = StudentSection(model=LITE, cut="blocks.2", head=96).identity()
    assert (section["cut"], section["head"]) == ("blocks.2", 96)


def test_network_is_built_with_the_cut() -> None:
    section = StudentSection(model=LITE, cut="blocks.2", head=96, options={"drop_rate": 0.1})
    assert section.build_options == {"drop_rate": 0.1, "cut": {"after": "blocks.2", "width": 96}}


def test_head_without_a_cut_is_refused() -> None:
    with pytest.raises(ValidationError, match="give `cut:`"):
        StudentSection(model=LITE, head=96)


def test_cut_among_options_is_refused() -> None:
    with pytest.raises(ValidationError, match="beside `options`"):
        StudentSection(model=LITE, options={"cut": {"after": "blocks.2"}})


def test_cut_of_a_teacher_that_is_no_network_is_refused() -> None:
    with pytest.raises(ValidationError, match="`cut` means nothing to an ONNX file"):
        TeacherSection(name="a", model="onnx:a.onnx", mean=(0.5,) * 3, std=(0.5,) * 3, cut="blocks.2")
