"""The code that travels with a model, loaded as a consumer has it."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from infra.servers.tracking import connect, quiet
from tasks.register.consumer import consumer_code


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The file loaded on its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_MLFLOW_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/m.db")
        connect()
    path = tmp_path_factory.mktemp("consumer") / "student.py"
    path.write_text(consumer_code(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("student_of_a_consumer", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with quiet():
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module
