"""Versions of a registered model: how one is made from a student."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.digest import sha256_file
from infra.servers.tracking import (
    TRAINING_TAG,
    end_run,
    experiment,
    model_source,
    quiet,
    start_run,
    versions,
)
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.data.export_formats import FILES
from tasks.register.gate_tags import gate_tags
from tasks.register.judged import Judged
from tasks.register.mlflow_run import lineage, log_run, own_figures, training_run, verdict_tags
from tasks.spec import Spec

KEY_TAG = "stillroom.key"
"""Tag of a version and of its MLflow run: the key of the registration."""

PARITY_TAG, SOURCES_TAG = "stillroom.parity", "stillroom.parity_sources"
"""Tags of a version: the largest difference from the evaluation, and what was compared of the corpus's own files."""

FORMATS_TAG, FILES_TAG = "stillroom.formats", "stillroom.files"
"""Tags of a version, JSON: rows {format, file, bytes, sha256, parity, latency} of what it offers, and {path: {sha256,
bytes}} of every file of the model's folder."""

# Two flows in one process may register at once; MLflow keeps the model that it is packing in a global variable.
_PACKING = threading.Lock()


def version_of(client: Any, name: str, key: str) -> Any | None:
    """The oldest registered version that carries the key of a registration."""
    return next((each for each in versions(client, name) if each.tags.get(KEY_TAG) == key), None)


def make_version(
    client: Any,
    name: str,
    key: str,
    report: Manifest,
    student: Manifest,
    corpus: Corpus,
    upstream: Sequence[Manifest],
    spec: Spec,
    *,
    gate: Manifest | None = None,
    export: Manifest | None = None,
    card: str | None = None,
    stage_version: int,
    flow_run: str = "",
) -> Any:
    """A new version, in the MLflow run of the student's training.

    Where the training was not tracked, or its run is gone, a run is made for it and gets its curve.

    Args:
        key: of the registration.
        upstream: manifests that the student was taught by, for its lineage tags.
        export: manifest of its files.
        card: the model card, Markdown.
        flow_run: id of the flow run whose MLflow run is the parent of a run that is made here.
    """
    place = experiment(client, spec.name)
    value = own_figures(report, student.facts["arm"], student.facts["seed"])[report.facts["metric"]]
    tags = {
        KEY_TAG: key,
        "stillroom.version.register": str(stage_version),
        **lineage(report, student, corpus, upstream),
        **verdict_tags(report, student.facts["arm"]),
        **gate_tags(gate),
        **_export_tags(export),
        "stillroom.metric": report.facts["metric"],
        "stillroom.metric_value": "" if value is None else repr(value),
    }
    _end_dead_runs(client, place, key)
    run_id = training_run(client, place, student.key)
    made_here = run_id is None
    if run_id is None:
        title = f"{name} seed {student.facts['seed']}"
        run_id = start_run(client, place, title, tags={**tags, TRAINING_TAG: student.key}, flow_run=flow_run)
    try:
        log_run(client, run_id, tags, report, student, corpus, spec, with_curve=made_here)
        with quiet():
            judged = Judged(report, export, gate, card)
            source, model_id, of_model = _log_model(client, place, run_id, judged, student, corpus, spec)
            made = _new_version(client, name, source, run_id, model_id, {**tags, **of_model})
    except BaseException:
        if made_here:
            end_run(client, place, run_id, "FAILED")
        raise
    if made_here:
        end_run(client, place, run_id, "FINISHED")
    return made


def _export_tags(export: Manifest | None) -> dict[str, str]:
    if export is None:
        return {}
    rows = [
        {"format": row["format"], "file": FILES[row["format"]]}
        | {name: row[name] for name in ("bytes", "sha256", "parity", "latency")}
        for row in export.facts["formats"]
        if row["offered"]
    ]
    return {FORMATS_TAG: json.dumps(rows), "stillroom.manifest.export": export.digest}


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """{path: {sha256, bytes}} of every file below a folder, by path with slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in files
    }


def _end_dead_runs(client: Any, place: str, key: str) -> None:
    """End runs that a registration left when it died: their model never became a version."""
    with quiet():
        left = client.search_runs([place], f"tags.`{KEY_TAG}` = '{key}' and attributes.status = 'RUNNING'")
    for run in left:
        end_run(client, place, run.info.run_id, "KILLED")


def _log_model(
    client: Any, place: str, run_id: str, judged: Judged, student: Manifest, corpus: Corpus, spec: Spec
) -> tuple[str, str, dict[str, str]]:
    """Pack, compare and upload the model: where it lies, its id, and the tags that say what was found."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    from tasks.register.model import pack
    from tasks.register.parity import parity

    assert judged.report is not None
    logged = client.create_logged_model(place, name="student", source_run_id=run_id)
    try:
        with _PACKING, tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
            about = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
            packed = pack(corpus, student, Path(folder), about, judged)
            found = parity(corpus, student, judged.report, packed, spec.each_corpus)
            files = json.dumps(files_of(packed))
            client.log_model_artifacts(logged.model_id, str(packed))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    tags = {PARITY_TAG: f"{found.largest:.6f}", SOURCES_TAG: found.sources, FILES_TAG: files}
    return model_source(client, logged), logged.model_id, tags


def _new_version(client: Any, name: str, source: str, run_id: str, model_id: str | None, tags: dict[str, str]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(name, source=source, run_id=run_id, tags=tags, model_id=model_id)
    # Our lock ends at this machine: of two that registered the same student, the older version stays.
    first = version_of(client, name, tags[KEY_TAG])
    if first is None or first.version == made.version:
        return made
    client.delete_model_version(name, made.version)
    return first
