"""Weights of a student in a real MLflow registry on SQLite, as a training finds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infra.digest import sha256_file
from infra.errors import UsageError
from infra.storage.store import LocalStore
from models.networks.build import build
from tasks.data.weights import weights_file
from tasks.teachers.weights_lookup import find_weights
from tests.tasks.registry import registered_student


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The graph of a registered micro_xs: version 1 of `eyes`, alias champion."""
    with registered_student(tmp_path_factory.mktemp("registry")) as path:
        yield path


@pytest.mark.parametrize("target", ["eyes@champion", "eyes/1"])
def test_a_network_starts_from_the_weights_of_a_registered_student(store: LocalStore, graph: Path, target: str) -> None:
    ref = find_weights(f"models:/{target}", "micro_xs", store)
    assert ref.id == ref.sha256 == sha256_file(graph)
    path = weights_file(ref, "micro_xs", store)
    assert path is not None
    assert path.is_relative_to(store.root)
    found = build("micro_xs", num_classes=3, weights=path, seed=1).module.state_dict()
    expected = build("micro_xs", num_classes=3, seed=7).module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_a_registered_student_may_start_a_network_of_other_classes(store: LocalStore, graph: Path) -> None:
    path = weights_file(find_weights("models:/eyes@champion", "micro_xs", store), "micro_xs", store)
    assert build("micro_xs", num_classes=5, weights=path).head_reset


def test_a_registered_student_is_copied_into_the_store_once(store: LocalStore, graph: Path) -> None:
    first = find_weights("models:/eyes@champion", "micro_xs", store)
    (name,) = store.sizes("teachers/")
    assert first.where == f"store:{name}"
    written = (store.root / name).stat().st_mtime_ns
    assert find_weights("models:/eyes/1", "micro_xs", store) == first
    assert (store.root / name).stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("eyes@nobody", "weights of micro: the model registry at .* has no models:/eyes@nobody"),
        ("eyes/9", "has no models:/eyes/9"),
        ("ears@champion", "has no models:/ears@champion"),
        ("eyes", "models:/eyes is neither models:/NAME@ALIAS nor models:/NAME/VERSION"),
    ],
)
def test_a_student_that_is_not_registered_is_refused(store: LocalStore, graph: Path, target: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        find_weights(f"models:/{target}", "micro", store)
    assert store.sizes("teachers/") == {}
