"""A home with the pinned runtime, fetched once and kept beside those of other runs."""

from __future__ import annotations

import pytest

from infra.errors import TransientError
from tasks.page.runtime import BrowserRuntime, browser_runtime


@pytest.fixture(scope="session")
def runtime() -> BrowserRuntime:
    """ONNX Runtime for browsers; the test skips, saying so, where the npm registry cannot be reached."""
    try:
        return browser_runtime()
    except TransientError as error:
        pytest.skip(str(error))
