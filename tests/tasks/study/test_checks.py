"""What stops a study, told before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.study_checks import check_study
from infra.digest import sha256_bytes
from infra.errors import SpecError
from infra.storage.manifest import seal
from infra.storage.store import LocalStore
from tasks.distill.checkpoints import FORMAT, Checkpoints, other_format
from tasks.study.checks import check_labels
from tasks.study.small_data import small_data
from tasks.study.unlabeled import unlabeled
from tests.tasks.study.bases import base_of

NO_POOL = "corpus.phantom={size: 64, labelled: 24, unlabelled: 0, val: 12, test: 12, seed: 5}"


def test_a_study_of_unlabelled_images_needs_some(tmp_path: Path) -> None:
    base = base_of(tmp_path, NO_POOL, "study.shares=[1.0]")
    with pytest.raises(SpecError, match=r"arm taught: study\.shares: at 100 % of the labels there is no unlabelled"):
        unlabeled(base)


def test_where_a_share_is_hidden_the_rest_is_the_pool(tmp_path: Path) -> None:
    base = base_of(tmp_path, NO_POOL, "study.shares=[0.5, 1.0]")
    assert any("Every training image has a label" in note for note in unlabeled(base).notes)


def test_a_share_that_leaves_a_class_empty_names_arm_and_key(tmp_path: Path) -> None:
    base = base_of(tmp_path, "study.shares=[0.005]")
    with pytest.raises(SpecError, match=r"condition labels-0_5, arm taught: study\.shares: 0\.005 leaves no patient"):
        check_labels(base, unlabeled(base))


def test_with_least_a_small_share_is_fine(tmp_path: Path) -> None:
    base = base_of(tmp_path, "study.shares=[0.005]", "study.least=1")
    check_labels(base, unlabeled(base))


def test_more_patients_than_there_are_names_arm_and_key(tmp_path: Path) -> None:
    base = base_of(tmp_path, "study.patients=[9999]")
    with pytest.raises(SpecError, match=r"condition patients-9999, arm taught: study\.patients: 9999 are asked for"):
        check_labels(base, small_data(base))


def test_mixed_views_and_folds_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"study\.folds: a mixed view shows two images of one shard"):
        base_of(tmp_path, "study.folds=3", "views.mix=mixup")


def test_a_store_without_interrupted_trainings_is_not_looked_at(tmp_path: Path) -> None:
    base = base_of(tmp_path)
    check_study(base, unlabeled(base), [0])
    assert not (tmp_path / "store").exists()


def test_a_checkpoint_of_another_format_is_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    Checkpoints(store, "own").save(3, b"state", [])
    note = {"format": FORMAT + 1, "step": 3, "sha256": sha256_bytes(b"state"), "history": []}
    store.put("checkpoints/other/000000003.json", seal(note))
    assert (other_format(store, "own"), other_format(store, "none")) == (None, None)
    assert other_format(store, "other") == FORMAT + 1
