"""A machine of a test's own: its home, and with it its MLflow database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.settings import reload_settings


@contextmanager
def own_machine(folder: Path) -> Iterator[Path]:
    """`folder` is STILLROOM_HOME inside the block, and no other registry is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_HOME", str(folder))
        patch.delenv("STILLROOM_MLFLOW_URI", raising=False)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        reload_settings()
        yield folder
    reload_settings()
