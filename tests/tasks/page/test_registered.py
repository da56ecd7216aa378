"""From the registry to the browser: the command, on a student that the line registered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from flows.cli import cli
from infra.compute.cluster import Cluster
from tasks.page.runtime import BrowserRuntime
from tasks.registry.predict import load_pulled
from tasks.registry.pull import pull
from tests.browser import chromium
from tests.tasks.machine import own_machine
from tests.tasks.page.driving import ask, start
from tests.tasks.registered import judged


def test_a_registered_student_answers_in_a_browser_as_it_does_when_pulled(
    tmp_path: Path, cluster: Cluster, runtime: BrowserRuntime
) -> None:
    with own_machine(tmp_path / "home"):
        students = judged(tmp_path, cluster, "evaluate.referable=1", task="ordinal")
        students.register("eyes")
        done = CliRunner().invoke(cli, ["page", "eyes", "--to", str(tmp_path / "page")], catch_exceptions=False)
        pull("eyes", tmp_path / "pulled")
    assert done.exit_code == 0
    files = students.images(tmp_path)[:3]
    expected = list(load_pulled(tmp_path / "pulled").rows(files))
    with chromium() as browser:
        start(browser, tmp_path / "page/index.html")
        for file, row in zip(files, expected, strict=True):
            found = ask(browser, file)
            np.testing.assert_allclose(found.probabilities, list(row["probabilities"].values()), atol=2e-3)
            assert found.referred is not None
            assert found.referred["probability"] == pytest.approx(row["p_referable"], abs=2e-3)
        assert browser.requests == []
