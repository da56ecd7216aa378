"""The spec's `views:` section: transforms in one form, checked when it is read, with a word for what may harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.errors import SpecError
from models.augmentation.draws import ViewRecipe
from tasks.spec import ViewsSection, parse_spec

SPEC = """
name: dr
store: store
corpus: {adapter: eyepacs, root: images}
teachers: [{name: big, model: resnet18}]
student: {model: micro}
"""


def views(**values: Any) -> ViewsSection:
    return ViewsSection.model_validate(values)


def test_transforms_are_read_in_one_form() -> None:
    spec = parse_spec(SPEC + "views: {transforms: [MedianBlur, {OneOf: [Blur, {CLAHE: {p: 0.2}}]}]}\n")
    assert spec.views.transforms == [
        {"MedianBlur": {}},
        {"OneOf": {"transforms": [{"Blur": {}}, {"CLAHE": {"p": 0.2}}]}},
    ]
    assert ViewsSection.model_validate(spec.views.model_dump()) == spec.views


def test_an_override_reaches_a_parameter() -> None:
    spec = parse_spec(SPEC + "views: {transforms: [{Blur: {p: 0.1}}]}\n", overrides=["views.transforms.0.Blur.p=0.5"])
    assert spec.views.transforms == [{"Blur": {"p": 0.5}}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{transforms: [Blurr]}", r"views: .*transforms\.0: .* no transform Blurr .* did you mean Blur\?"),
        ("{transforms: [{Blur: {blur: 3}}]}", "Blur has no parameter blur; did you mean blur_limit"),
        ("{transforms: [{Blur: 3}]}", r"views\.transforms: .*0: Blur takes"),
        ("{transforms: Blur}", r"views\.transforms: Input should be a valid list"),
        ("{transforms: [Normalize]}", "Normalize gives float32"),
        ("{allow: [mirrors]}", "Input should be 'mirror' or 'hue'"),
    ],
)
def test_a_wrong_transform_is_refused_when_the_spec_is_read(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec(f"{SPEC}views: {text}\n")


@pytest.mark.parametrize(
    ("modality", "name", "word"),
    [
        ("xray", "HorizontalFlip", "mirror"),
        ("xray", "D4", "mirror"),
        ("fundus", "HueSaturationValue", "hue"),
        ("endoscopy", "ChannelShuffle", "hue"),
    ],
)
def test_what_harms_a_kind_of_image_needs_a_word(modality: str, name: str, word: str) -> None:
    inner = [{"OneOf": [name, "Blur"]}]
    with pytest.raises(SpecError, match=rf"{name} .*\({modality} images\).*views\.allow: \[{word}\]"):
        views(transforms=inner).resolved(modality)
    assert views(transforms=inner, allow=[word]).resolved(modality).allow == [word]
    other = "endoscopy" if modality == "xray" else "xray"
    assert views(transforms=inner).resolved(other).transforms


def test_a_word_for_one_thing_allows_no_other() -> None:
    with pytest.raises(SpecError, match="HorizontalFlip mirrors"):
        views(transforms=["HorizontalFlip"], allow=["hue"]).resolved("xray")


def test_a_section_without_transforms_has_the_identity_that_it_had() -> None:
    assert {"transforms", "allow", "libraries"}.isdisjoint(views().identity())
    assert views(allow=["hue"]).identity() == views().identity()


def test_transforms_and_versions_are_part_of_the_identity() -> None:
    found = views(transforms=["Blur"]).identity()
    assert found["transforms"] == [{"Blur": {}}]
    assert found["libraries"] == {"albumentations": "2.0.8", "albucore": "0.0.24"}


def test_the_recipe_of_an_identity_is_that_of_the_section() -> None:
    section = views(transforms=["Blur", {"OneOf": ["CLAHE", "Sharpen"]}]).resolved("other")
    assert ViewRecipe.from_values(section.identity()) == ViewRecipe.from_values(section.model_dump())
    assert len(ViewRecipe.from_values(section.identity()).transforms) == 2


def test_a_spec_without_transforms_brings_no_image_library() -> None:
    call = (
        "import sys, flows.cli; from tasks.spec import parse_spec; "
        f"parse_spec({SPEC!r}).views.resolved('xray').identity(); "
        "print(sorted({'albumentations', 'albucore', 'cv2', 'numpy', 'torch'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    run = subprocess.run([sys.executable, "-c", call], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
