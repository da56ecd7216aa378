"""Two machines that register the same student at once: no lock of ours reaches both, and one version stays."""

from __future__ import annotations

from pathlib import Path

from infra.servers.tracking import connect, experiment, versions
from tasks.register.versions import KEY_TAG, _new_version


def test_of_two_versions_with_one_key_the_older_stays(home: Path) -> None:
    client = connect()
    run = client.create_run(experiment(client, "a line")).info
    first, second = (
        _new_version(client, "a student", run.artifact_uri, run.run_id, None, {KEY_TAG: "the same"}, "one", "it")
        for _ in range(2)
    )
    assert (first.version, second.version) == (1, 1)
    assert len(versions(client, "a student")) == 1


def test_versions_with_other_keys_stay(home: Path) -> None:
    client = connect()
    run = client.create_run(experiment(client, "a line")).info
    for key in ("one", "another"):
        _new_version(client, "a student", run.artifact_uri, run.run_id, None, {KEY_TAG: key}, "one", "it")
    assert len(versions(client, "a student")) == 2
