"""Versions of a registered model: how one is made from a student."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

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
from infra.storage.stage_cache import read_output
from tasks.data.corpus import Corpus
from tasks.data.export_formats import FILES
from tasks.register.description import link_figures, model_description, version_description
from tasks.register.gate_tags import gate_tags
from tasks.register.judged import Judged
from tasks.register.mlflow_run import figures, lineage, log_run, own_figures, training_run, verdict_tags
from tasks.register.provenance import provenance_tags
from tasks.register.upload import files_tag, upload
from tasks.spec import Spec

KEY_TAG = "stillroom.key"
"""Tag of a version and of its MLflow run: the key of the registration."""

PARITY_TAG, SOURCES_TAG = "stillroom.parity", "stillroom.parity_sources"
"""Tags of a version: the largest difference from the evaluation, and what was compared of the corpus's own files."""

FORMATS_TAG = "stillroom.formats"
"""Tag of a version, JSON: rows {format, file, bytes, sha256, parity, latency} of what it offers."""

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
    page: Manifest | None = None,
    stage_version: int,
    flow_run: str = "",
) -> Any:
    """A new version, in the MLflow run of the student's training.

    Where the training was not tracked, or its run is gone, a run is made for it and gets its curve.

    Args:
        key: of the registration.
        upstream: manifests that the student was taught by, for its lineage tags.
        export: manifest of its files.
        page: manifest of stage report; its page goes to the run, its card to the model.
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
        **provenance_tags(spec),
        **({} if page is None else {"stillroom.manifest.report": page.digest}),
        "stillroom.metric": report.facts["metric"],
        "stillroom.metric_value": "" if value is None else repr(value),
    }
    end_dead_runs(client, place, key)
    run_id = training_run(client, place, student.key)
    made_here = run_id is None
    if run_id is None:
        title = f"{name} seed {student.facts['seed']}"
        run_id = start_run(client, place, title, tags={**tags, TRAINING_TAG: student.key}, flow_run=flow_run)
    try:
        log_run(client, run_id, tags, report, student, corpus, spec, with_curve=made_here, page=page)
        with quiet():
            judged = Judged(report, export, gate, _card(corpus, page))
            source, model_id, of_model = _log_model(client, place, run_id, judged, student, corpus, spec, key)
            own = figures(report, student.facts["arm"], student.facts["seed"])
            link_figures(client, run_id, model_id, own, corpus)
            texts = version_description(name, report, student, corpus, gate, page), model_description(corpus)
            made = _new_version(client, name, source, run_id, model_id, {**tags, **of_model}, *texts)
    except BaseException:
        if made_here:
            _if_reached(lambda: end_run(client, place, run_id, "FAILED"))
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


def _card(corpus: Corpus, page: Manifest | None) -> str | None:
    """The model card of stage report."""
    return None if page is None else read_output(corpus.store, page.output(kind="card")).decode()


def end_dead_runs(client: Any, place: str, key: str, *, but: str = "") -> None:
    """End runs and logged models that a registration left when it died: their model never became a version.

    Args:
        place: id of the experiment.
        key: of the registration.
        but: run of the version that it did make; it is finished, and so is its model.
    """
    with quiet():
        left = client.search_runs([place], f"tags.`{KEY_TAG}` = '{key}' and attributes.status = 'RUNNING'")
        models = client.search_logged_models([place], f"tags.`{KEY_TAG}` = '{key}'")
    for model in models:
        if str(model.status) == "PENDING":
            client.finalize_logged_model(model.model_id, "FAILED")
    for run in left:
        end_run(client, place, run.info.run_id, "FINISHED" if run.info.run_id == but else "KILLED")


def settle(client: Any, held: Any) -> None:
    """Finish what a registration left open that died when its version was made.

    Args:
        held: the oldest version of the registration's key; younger ones, of a request whose answer was lost, go.
    """
    with quiet():
        for each in versions(client, held.name):
            if each.tags.get(KEY_TAG) == held.tags[KEY_TAG] and each.version != held.version:
                client.delete_model_version(held.name, each.version)
        run = client.get_run(held.run_id)
    if run.info.status == "RUNNING":
        end_dead_runs(client, run.info.experiment_id, held.tags[KEY_TAG], but=held.run_id)


def _if_reached(call: Callable[[], object]) -> None:
    """Tidy up after an error; where the server is the error, the next registration does it."""
    with suppress(Exception):
        call()


def _log_model(
    client: Any, place: str, run_id: str, judged: Judged, student: Manifest, corpus: Corpus, spec: Spec, key: str
) -> tuple[str, str, dict[str, str]]:
    """Pack, compare and upload the model: where it lies, its id, and the tags that say what was found."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    from tasks.register.model import pack
    from tasks.register.parity import parity

    assert judged.report is not None
    logged = client.create_logged_model(place, name="student", source_run_id=run_id, tags={KEY_TAG: key})
    try:
        with _PACKING, tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
            about = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
            packed = pack(corpus, student, Path(folder), about, judged)
            found = parity(corpus, student, judged.report, packed, spec.each_corpus)
            files = upload(logged.artifact_location, packed)
    except BaseException:
        _if_reached(lambda: client.finalize_logged_model(logged.model_id, "FAILED"))
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    tags = {PARITY_TAG: f"{found.largest:.6f}", SOURCES_TAG: found.sources, **files_tag(files)}
    return model_source(client, logged), logged.model_id, tags


def _new_version(
    client: Any, name: str, source: str, run_id: str, model_id: str, tags: dict[str, str], text: str, model_text: str
) -> Any:
    """The new version, described by `text`; the registered model, where it is new, by `model_text`."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=model_text)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        name, source=source, run_id=run_id, tags=tags, model_id=model_id, description=text
    )
    # Our lock ends at this machine: of two that registered the same student, the older version stays.
    first = version_of(client, name, tags[KEY_TAG])
    if first is None or first.version == made.version:
        return made
    client.delete_model_version(name, made.version)
    return first
