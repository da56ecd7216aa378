"""Register the best student: an MLflow run, a version with lineage, and its alias.

The version carries the stage's key as a tag. That makes a second call find it, and makes a call after a crash
finish what is left: version without alias, alias without manifest.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.digest import unit_key
from infra.errors import UsageError
from infra.servers.tracking import alias_of, connect, experiment, model_source, quiet, versions
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.pipeline.result import StageResult
from tasks.register.champion import CHALLENGER, CHAMPION, Verdict, decide
from tasks.spec import Spec

STAGE = "register"
VERSION = 2
KEY_TAG = "stillroom.key"


def register(
    report: Manifest,
    chosen: Manifest | Sequence[Manifest],
    corpus: Corpus,
    upstream: Sequence[Manifest],
    spec: Spec,
    store: Store,
) -> StageResult:
    """Make the best student a version of `register.name` (default: the spec's name).

    Args:
        report: manifest of stage evaluate.
        chosen: the student to register, or all trained models: then the one that the report calls best.
        upstream: manifests that the student was taught by (label, select), for its lineage tags.

    Returns:
        A manifest whose facts are {name, version, aliases, run_id, verdict, reason, parity}.

    Raises:
        UsageError: no taught student among `chosen`, or the report does not judge it.
        PermanentError: the packed student does not answer as it was evaluated.
    """
    student = _student(report, chosen)
    name = spec.register_.name or spec.name
    key = stage_key(report, student, spec)
    cache = StageCache(store)
    hit = cache.lookup(STAGE, key)
    client = connect()
    held = next((v for v in versions(client, name) if v.tags.get(KEY_TAG) == key), None)
    if hit is not None and held is not None and str(held.version) == hit.manifest.facts["version"]:
        return StageResult(hit.manifest, made=0, total=1)
    if held is None:
        held = _make_version(client, name, key, report, student, corpus, upstream, spec)
    verdict = _move_aliases(client, name, held, spec)
    with quiet():
        aliases = sorted(client.get_model_version(name, held.version).aliases)
    manifest = Manifest(
        stage=STAGE,
        version=VERSION,
        key=key,
        inputs=[report.digest, student.digest, corpus.manifest.digest],
        section=_section(spec),
        outputs=[],
        facts={
            "name": name,
            "version": str(held.version),
            "aliases": aliases,
            "run_id": held.run_id,
            "verdict": verdict.alias,
            "reason": verdict.reason,
            "parity": held.tags["stillroom.parity"],
        },
    )
    return StageResult(cache.commit(manifest), made=1, total=1)


def stage_key(report: Manifest, chosen: Manifest, spec: Spec) -> str:
    """Key of the registration: the report, the student and the name it gets."""
    return unit_key(
        STAGE,
        VERSION,
        inputs=[report.key],
        section=_section(spec),
        weights=[chosen.output(kind="model").id],
    )


def _section(spec: Spec) -> dict[str, Any]:
    return {**spec.register_.identity(), "name": spec.register_.name or spec.name}


def _student(report: Manifest, chosen: Manifest | Sequence[Manifest]) -> Manifest:
    if isinstance(chosen, Manifest):
        return chosen
    best = report.facts["best"]
    found = [m for m in chosen if best is not None and m.key == best["key"]]
    if not found:
        raise UsageError(f"report {report.key[:12]} names no best student among the {len(chosen)} models given")
    return found[0]


def _make_version(
    client: Any,
    name: str,
    key: str,
    report: Manifest,
    student: Manifest,
    corpus: Corpus,
    upstream: Sequence[Manifest],
    spec: Spec,
) -> Any:
    from tasks.register.record import lineage, log_run, own_figures

    place = experiment(client, spec.name)
    with quiet():
        for run in client.search_runs([place], f"tags.`{KEY_TAG}` = '{key}' and attributes.status = 'RUNNING'"):
            # Left by a call that died: its model never became a version.
            client.set_terminated(run.info.run_id, "KILLED")
        facts = report.facts
        value = own_figures(report, student.facts["seed"])[facts["metric"]]
        tags = {
            KEY_TAG: key,
            **lineage(report, student, corpus, upstream, VERSION),
            "stillroom.metric": facts["metric"],
            "stillroom.metric_value": "" if value is None else repr(value),
        }
        run_id = client.create_run(
            place, run_name=f"{name} seed {student.facts['seed']}", tags={**tags, "mlflow.source.name": "stillroom"}
        ).info.run_id
        try:
            log_run(client, run_id, report, student, corpus, spec)
            source, model_id, largest = _log_model(client, place, run_id, report, student, corpus)
            made = _new_version(client, name, source, run_id, model_id, {**tags, "stillroom.parity": f"{largest:.6f}"})
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id, "FINISHED")
    return made


def _log_model(
    client: Any, place: str, run_id: str, report: Manifest, student: Manifest, corpus: Corpus
) -> tuple[str, str, float]:
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    from tasks.register.model import pack, parity

    logged = client.create_logged_model(place, name="student", source_run_id=run_id)
    try:
        with tempfile.TemporaryDirectory(prefix="stillroom-") as folder:
            about = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
            packed = pack(corpus, student, Path(folder), about, report)
            found = parity(corpus, student, report, packed)
            client.log_model_artifacts(logged.model_id, str(packed))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return model_source(client, logged), logged.model_id, found.largest


def _new_version(client: Any, name: str, source: str, run_id: str, model_id: str, tags: dict[str, str]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(name, source=source, run_id=run_id, tags=tags, model_id=model_id)


def _move_aliases(client: Any, name: str, held: Any, spec: Spec) -> Verdict:
    champion = alias_of(client, name, CHAMPION)
    verdict = decide(spec.register_.champion, held, champion)
    with quiet():
        client.set_registered_model_alias(name, CHALLENGER, held.version)
        if verdict.alias == CHAMPION:
            client.set_registered_model_alias(name, CHAMPION, held.version)
    return verdict
