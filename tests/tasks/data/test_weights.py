"""Weights of a student in a real MLflow registry on SQLite, as a training finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from infra.digest import sha256_file
from infra.errors import UsageError
from infra.servers.tracking import connect, quiet
from infra.settings import reload_settings
from infra.storage.store import LocalStore
from models.networks.build import build
from models.networks.weight_files import export_pt2
from tasks.data.weights import weights_file
from tasks.teachers.weights_lookup import find_weights


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The graph of a registered micro_xs: version 1 of `eyes`, alias champion."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_HOME", str(folder / "home"))
        patch.delenv("STILLROOM_MLFLOW_URI", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        reload_settings()
        client = connect()
        path = folder / "model" / "artifacts" / "network.pt2"
        path.parent.mkdir(parents=True)
        built = build("micro_xs", num_classes=3, seed=7)
        path.write_bytes(export_pt2(built.module, 32))
        with quiet():
            from mlflow.models import Model

            about = {
                "classes": ["a", "b", "c"],
                "task": "single",
                "input_size": 32,
                "mean": [0.5] * 3,
                "std": [0.5] * 3,
            }
            model = Model(metadata=about)
            artifacts = {"network": {"path": "artifacts/network.pt2", "uri": ""}}
            model.add_flavor("python_function", loader_module="mlflow.pyfunc.model", artifacts=artifacts)
            model.save(str(folder / "model" / "MLmodel"))
            client.create_registered_model("eyes")
            client.create_model_version("eyes", source=str(folder / "model"))
            client.set_registered_model_alias("eyes", "champion", "1")
        yield path
    reload_settings()


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
