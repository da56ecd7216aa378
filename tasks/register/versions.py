"""Versions of a registered model: how one is made from a student, and which of them is the champion."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.digest import sha256_file
from infra.servers.tracking import (
    TRAINING_TAG,
    alias_of,
    end_run,
    experiment,
    model_source,
    quiet,
    start_run,
    versions,
)
from infra.storage.manifest import Manifest
from models.statistics.metrics import LOWER_IS_BETTER
from tasks.data.corpus import Corpus
from tasks.data.export_formats import FILES
from tasks.register.champion import CHAMPION, GATE_TAG, PASSED, WHY_TAG, move_champion
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

CHALLENGER = "challenger"

_LONGEST = 5000  # characters of a tag: what MLflow's page still shows

# Two flows in one process may register at once; MLflow keeps the model that it is packing in a global variable.
_PACKING = threading.Lock()


@dataclass(frozen=True)
class ChampionDecision:
    """The alias that a version gets in addition to challenger, or challenger alone, or none (""), and why."""

    alias: str
    reason: str


def decide(policy: str, new: Any, champion: Any | None) -> ChampionDecision:
    """Apply `register.champion`.

    Args:
        policy: if_none, if_better or never.
        new: the new version; its tags hold the metric, its value and the ingest manifest.
        champion: the version that holds the alias now, or None.
    """
    if champion is not None and champion.version == new.version:
        return ChampionDecision(CHAMPION, "it is the champion already")
    if policy == "never":
        return ChampionDecision(CHALLENGER, "register.champion is never: a person promotes")
    if champion is None:
        return ChampionDecision(CHAMPION, "there was no champion")
    if policy == "if_none":
        return ChampionDecision(CHALLENGER, f"version {champion.version} is champion and register.champion is if_none")
    return _better(new, champion)


def _better(new: Any, champion: Any) -> ChampionDecision:
    ours, theirs = new.tags, champion.tags
    other = f"version {champion.version}"
    if ours["stillroom.manifest.ingest"] != theirs.get("stillroom.manifest.ingest"):
        return ChampionDecision(CHALLENGER, f"{other} was judged on other data, so the figures cannot be compared")
    metric = ours["stillroom.metric"]
    if metric != theirs.get("stillroom.metric"):
        return ChampionDecision(
            CHALLENGER, f"{other} was judged by {theirs.get('stillroom.metric')}, this one by {metric}"
        )
    values = ours["stillroom.metric_value"], theirs.get("stillroom.metric_value")
    if not values[0] or not values[1]:
        return ChampionDecision(CHALLENGER, f"{metric} is undefined for one of the two")
    value, champions = float(values[0]), float(values[1])
    wins = value < champions if metric in LOWER_IS_BETTER else value > champions
    reason = f"{metric} {value:.4f} on the same test images, {other} has {champions:.4f}"
    return ChampionDecision(CHAMPION if wins else CHALLENGER, reason)


def move_aliases(client: Any, name: str, held: Any, policy: str, *, gate: Manifest | None = None) -> ChampionDecision:
    """Make a version the challenger, and the champion where the policy says so; neither where the gate is closed."""
    if gate is not None and gate.facts["verdict"] != PASSED:
        return ChampionDecision("", f"the gate is closed: {gate.facts['why']}")
    before = alias_of(client, name, CHAMPION)
    decision = decide(policy, held, before)
    with quiet():
        client.set_registered_model_alias(name, CHALLENGER, held.version)
    if decision.alias == CHAMPION and (before is None or before.version != held.version):
        move_champion(client, name, held, before, by=f"register.champion: {policy}", reason=decision.reason)
    return decision


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
        **_gate_tags(gate),
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


def _gate_tags(gate: Manifest | None) -> dict[str, str]:
    """`stillroom.gate`: the verdict; `stillroom.gate_why`: what did not pass; `stillroom.operating_point` as JSON."""
    if gate is None:
        return {}
    facts = gate.facts
    found = {GATE_TAG: facts["verdict"], "stillroom.manifest.gate": gate.digest}
    if facts["why"]:
        found[WHY_TAG] = facts["why"][:_LONGEST]
    if facts["operating_point"] is not None:
        found["stillroom.operating_point"] = json.dumps(facts["operating_point"])
    return found


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
