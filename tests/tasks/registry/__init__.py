"""A model registry with one student."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.servers.tracking import connect, quiet
from infra.settings import reload_settings
from models.networks.build import build
from models.networks.weight_files import export_pt2


@contextmanager
def registered_student(folder: Path) -> Iterator[Path]:
    """The graph of a micro_xs that is version 1 of `eyes`, alias champion, in the registry of this block's settings."""
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
