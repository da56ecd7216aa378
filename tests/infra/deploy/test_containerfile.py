"""The container file: packages held against hashes, no secret, no root."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.infra.deploy.files import DEPLOY, ROOT

TEXT = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_whatever_pip_takes_from_an_index_has_a_hash() -> None:
    calls = re.findall(r"pip (download|install) ([^\n]*?)(?=&&|\n)", TEXT)
    assert [kind for kind, _ in calls].count("download") == 4
    for kind, arguments in calls:
        assert ("--require-hashes" if kind == "download" else "--no-index") in arguments


def test_images_hold_the_services_and_no_tools_of_development() -> None:
    for extras in re.findall(r'"\.\[([^\]]+)\]"', TEXT):
        assert set(extras.split(",")) <= EXTRAS.keys() - {"test", "dev"}
        assert {"servers", "kubernetes"} <= set(extras.split(","))


def test_an_image_does_not_run_as_root_and_knows_no_secret() -> None:
    assert re.findall(r"^USER (.*)$", TEXT, re.MULTILINE) == ["10001:10001"]
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|TOKEN|SECRET|KEY)", TEXT, re.MULTILINE)


def test_only_sources_reach_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.*) \S+$", TEXT, re.MULTILINE)
        for word in line.split()
    }
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert {word.partition("/")[0] for word in copied} <= kept | {"hashes.txt", "hashes-torch.txt", "hashes-cuda.txt"}


def test_charts_of_prefect_find_their_entry_point() -> None:
    assert "/opt/prefect/entrypoint.sh" in TEXT
    assert " tini" in TEXT
    assert (DEPLOY / "entrypoint.sh").stat().st_mode & 0o111


def test_the_chart_of_the_worker_starts_the_one_that_ends_its_runs_first() -> None:
    # The arguments that the chart gives, and a probe of them that ends at once.
    chart = ["prefect", "worker", "start", "--type", "process", "--pool", "stillroom-cpu", "--install-policy", "never"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [DEPLOY / "entrypoint.sh", *chart, "--help"],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("usage: infra.servers.pool_worker")
