"""Specs: what is wrong is named, with what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import SpecError
from tasks.spec import load_spec, parse_spec

GOOD = """
name: dr
store: store
corpus: {adapter: eyepacs, root: images}
teachers: [{name: big, model: resnet18, train: {epochs: 2}}]
student: {model: micro}
"""


def test_a_short_spec_is_enough() -> None:
    spec = parse_spec(GOOD)
    assert spec.corpus.title == "eyepacs"
    assert spec.student.train.epochs == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "corpsu: 1\n", "unknown key corpsu; did you mean corpus"),
        (GOOD.replace("root: images", "root: images, splt: {}"), "unknown key corpus.splt; did you mean split"),
        (GOOD.replace("epochs: 2", "epohcs: 2"), r"unknown key teachers.0.train.epohcs; did you mean epochs"),
        (GOOD.replace("model: micro", "model: micro, train: {epochs: 2, steps: 3}"), "exactly one of steps and epochs"),
        (GOOD.replace("eyepacs", "eyepax"), "corpus.adapter"),
        (GOOD.replace("eyepacs", "table"), "corpus.table is needed"),
        (GOOD.replace("root: images", "root: images, split: {val: 0.6, test: 0.5}"), "leave nothing for train"),
        (GOOD + "ingest: {encode: keep, size: 512}\n", "encode: keep stores files as they are"),
        (GOOD.replace("name: dr", "name: [1"), "not YAML"),
        (GOOD + "views: {count: 1000000}\n", "views.count: Input should be less than 1000000"),
        (GOOD.replace("micro}", "micro, targets: mean}") + "views: {mix: mixup}\n", "views.mix: mixup mixes two"),
        (GOOD.replace("micro}", "micro, targets: mean, teacher: online}"), "mean is over stored views"),
        ("- 1", "a spec is a mapping"),
    ],
)
def test_a_wrong_spec_says_where(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec(text)


def test_two_teachers_of_one_name_are_refused() -> None:
    with pytest.raises(SpecError, match="same name"):
        parse_spec(GOOD.replace("teachers: [", "teachers: [{name: big, model: resnet34}, "))


def test_overrides_reach_lists_and_new_sections() -> None:
    spec = parse_spec(GOOD, overrides=["teachers.0.size=96", "ingest.quality=80"])
    assert (spec.teachers[0].size, spec.ingest.quality) == (96, 80)


@pytest.mark.parametrize("override", ["a.b", "teachers.9.size=1", "name.x=1"])
def test_an_override_without_a_place_is_refused(override: str) -> None:
    with pytest.raises(SpecError, match="--set"):
        parse_spec(GOOD, overrides=[override])


def test_paths_are_taken_from_the_spec_s_folder(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    spec = load_spec(tmp_path / "s.yaml")
    assert spec.store == str(tmp_path / "store")
    assert spec.corpus.root == str(tmp_path / "images")


def test_a_missing_spec_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml"):
        load_spec(tmp_path / "nowhere.yaml")


def test_paths_and_run_are_no_part_of_the_identity() -> None:
    one, two = parse_spec(GOOD), parse_spec(GOOD.replace("root: images", "root: elsewhere"))
    assert one.corpus.identity() == two.corpus.identity()


def test_an_address_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(GOOD)
    overrides = ["corpus.root=s3://bucket/eyepacs", "store=s3://bucket/store"]
    spec = load_spec(tmp_path / "spec.yaml", overrides)
    assert (spec.corpus.root, spec.store) == ("s3://bucket/eyepacs", "s3://bucket/store")


def test_a_preset_of_ones_own_lies_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("workers: 7\n")
    (tmp_path / "dr.yaml").write_text(GOOD + "run: {cluster: {preset: mine.yaml, threads: 2}}\n")
    cluster = load_spec(tmp_path / "dr.yaml").run.cluster
    assert (cluster.workers, cluster.threads) == (7, 2)


def test_targets_enter_the_identity_of_a_student_where_they_are_not_the_default() -> None:
    assert "targets" not in parse_spec(GOOD).student.identity()
    mean = parse_spec(GOOD, overrides=["student.targets=mean"]).student.identity()
    assert mean == {**parse_spec(GOOD).student.identity(), "targets": "mean"}
