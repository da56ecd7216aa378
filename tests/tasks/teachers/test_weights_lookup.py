"""Students of a real MLflow registry on SQLite as teachers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.digest import sha256_file
from infra.errors import UsageError
from infra.servers.tracking import connect, quiet
from infra.settings import reload_settings
from infra.storage.store import LocalStore
from models.networks.build import build
from tasks.register.model import pack
from tasks.spec import TeacherSection
from tasks.teachers.network import load_teacher
from tasks.teachers.teacher import teacher_handle, teacher_model, upload_weights
from tests.tasks.label.teachers import spec_of
from tests.tasks.trained import trained
from tests.tiny import tiny_corpus


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A registry whose model `eyes` has one version with the alias champion."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_HOME", str(folder / "home"))
        patch.delenv("STILLROOM_MLFLOW_URI", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        reload_settings()
        corpus = tiny_corpus(LocalStore(folder / "store"))
        client = connect()
        with quiet():
            from mlflow.models import Model

            packed = pack(corpus, trained(corpus, "taught", 0), folder, Model())
            client.create_registered_model("eyes")
            client.create_model_version("eyes", source=str(packed))
            client.set_registered_model_alias("eyes", "champion", "1")
            (folder / "foreign").mkdir()
            Model().save(str(folder / "foreign" / "MLmodel"))
            client.create_registered_model("foreign")
            client.create_model_version("foreign", source=str(folder / "foreign"))
        yield client
    reload_settings()


def section(model: str) -> TeacherSection:
    return TeacherSection(name="small", model=model)


@pytest.mark.parametrize("target", ["eyes@champion", "eyes/1"])
def test_a_registered_student_answers_as_it_was_registered(store: LocalStore, registry: Any, target: str) -> None:
    corpus = tiny_corpus(store)
    handle = teacher_handle(section(f"models:/{target}"), [], corpus, store)
    assert store.sizes("teachers/") == {}
    upload_weights(handle, store)
    model = teacher_model(handle, corpus, spec_of(store, Path("nowhere")), store)
    assert (model.kind, model.model, model.size) == ("graph", "", 32)
    network = load_teacher(model, model.weights, store)
    expected = build("micro_xs", num_classes=3, seed=100 * len("taught"))
    assert np.allclose([network.mean, network.std], [expected.mean, expected.std])
    x = torch.rand(4, 3, 32, 32)
    assert network.module is not None
    assert torch.allclose(network.module(x), expected.module(x), atol=1e-5)


def test_an_alias_is_resolved_once(store: LocalStore, registry: Any) -> None:
    corpus, spec = tiny_corpus(store), spec_of(store, Path("nowhere"))
    by_alias, by_version = (
        teacher_model(teacher_handle(section(f"models:/eyes{end}"), [], corpus, store), corpus, spec, store)
        for end in ("@champion", "/1")
    )
    assert by_alias == by_version
    sha = by_alias.weights.sha256
    assert by_alias.weights.where == f"store:teachers/{sha}.pt2"
    source = Path(registry.get_model_version("eyes", "1").source)
    assert sha256_file(source / "artifacts" / "network.pt2") == sha


@pytest.mark.parametrize("target", ["eyes@nobody", "eyes/7", "ears@champion", "ears/1"])
def test_a_version_that_nobody_registered_is_named(store: LocalStore, registry: Any, target: str) -> None:
    with pytest.raises(UsageError, match=f"teacher small: the model registry at sqlite:.* has no models:/{target}"):
        teacher_handle(section(f"models:/{target}"), [], tiny_corpus(store), store)


def test_a_machine_without_a_registry_is_told_so(store: LocalStore, home: Path) -> None:
    with pytest.raises(UsageError, match="has no models:/eyes@champion"):
        teacher_handle(section("models:/eyes@champion"), [], tiny_corpus(store), store)
    assert not (home / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("corpus", "text"),
    [
        (lambda store: tiny_corpus(store, classes=4), "models:/eyes/1 has 3 classes .* the corpus has 4"),
        (lambda store: tiny_corpus(store, task="multilabel"), "models:/eyes/1 was made for a single corpus"),
    ],
)
def test_a_student_of_another_corpus_is_refused(
    store: LocalStore, registry: Any, corpus: Callable[[LocalStore], Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        teacher_handle(section("models:/eyes@champion"), [], corpus(store), store)


def test_a_model_of_somebody_else_is_refused(store: LocalStore, registry: Any) -> None:
    with pytest.raises(UsageError, match="models:/foreign/1 is no student that `stillroom register` made"):
        teacher_handle(section("models:/foreign/1"), [], tiny_corpus(store), store)
