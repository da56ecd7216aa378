"""The MLflow run of a registered student: parameters, curve, figures, report files and the data behind them.

It is the run that the training wrote its curves into, so that a version of the registry leads to its own training.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.servers.tracking import TRAINING_TAG, quiet
from infra.storage.manifest import Manifest
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.data.patients import images_without_patient, leakage_text
from tasks.spec import Spec
from tasks.spec.arms import LABELS_ONLY
from tasks.teachers.champion_start import FACT, TAG

_PARAMS, _METRICS = 100, 1000  # most that one MLflow call takes
_LONGEST = 500


def parameters(spec: Spec) -> dict[str, str]:
    """The spec, flattened; without places: MLflow is shared more widely than the machine's folders are."""
    plain = spec.model_dump(mode="json", by_alias=True)
    for gone in ("store", "run", "retrain"):
        plain.pop(gone)
    one, several = plain.pop("corpus"), plain.pop("corpora")
    plain |= {"corpora": [_corpus(each) for each in several]} if several else {"corpus": _corpus(one)}
    if plain["drift"]["predictions"] is not None:
        plain["drift"]["predictions"] = "a log"
    for section in (plain["student"], *plain["teachers"]):
        if section["weights"] not in (None, "pypi") and not section["weights"].startswith("models:/"):
            section["weights"] = "store" if section["weights"].startswith("store:") else "file"
    for teacher in plain["teachers"]:
        if teacher["model"].startswith(("onnx:", "table:")):
            teacher["model"] = teacher["model"].partition(":")[0]
    return {name: str(value)[:_LONGEST] for name, value in _flat("", plain)}


def _corpus(plain: dict[str, Any]) -> dict[str, Any]:
    """Of one corpus, as a person may read it who may not see its images."""
    plain.pop("root")
    known = ("adapter", "name", "private", "task", "classes", "use")
    return {name: plain[name] for name in known if name in plain} if plain["private"] else plain


def curve(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, int]]:
    """(metric, value, step) for every number of a training's history."""
    return [
        (name, float(value), int(row["step"]))
        for row in history
        for name, value in sorted(row.items())
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    ]


def figures(report: Manifest, arm: str, seed: int) -> dict[str, float]:
    """The chosen student's test metrics, the arms' means of the main metric, what teaching gained, and the gap.

    `gap_closed/<arm>` with `_low` and `_high` is there only where the gap is clear of zero; `gap` is always, where a
    teacher and labels alone were judged.

    Args:
        arm, seed: of the chosen student.
    """
    facts = report.facts
    metric = facts["metric"]
    found = {f"test_{name}": value for name, value in own_figures(report, arm, seed).items()}
    for name, row in facts["arms"].items():
        found[f"compare/{name.replace(':', '-')}/{metric}"] = row["values"][metric]
    gain = facts["difference"]
    if gain is not None:
        found["teaching_gain"] = gain["value"]
        if gain["interval"] is not None:
            found["teaching_gain_low"], found["teaching_gain_high"] = gain["interval"]
    gap = facts["gap_closed"]
    for name, each in [("gap", gap["gap"]), *((f"gap_closed/{name}", own) for name, own in gap["arms"].items())]:
        if each is not None:
            found[name] = each["value"]
            if each["interval"] is not None:
                found[f"{name}_low"], found[f"{name}_high"] = each["interval"]
    return {name: float(value) for name, value in found.items() if value is not None}


def verdict_tags(report: Manifest, arm: str) -> dict[str, str]:
    """Tags of a version: `stillroom.gap_closed` (a share with its interval, or why there is none), whether the student
    is `stillroom.better_than_majority` (yes, no or unknown), and `stillroom.headline`, what the report says first.
    """
    facts = report.facts
    gap, majority = facts["gap_closed"], facts["against_majority"]
    own = gap["arms"].get(arm)
    span = own and own["interval"]
    share = gap["reason"] or "undefined"
    if own and own["value"] is not None:
        share = f"{own['value']:.3f}" + (f" [{span[0]:.3f}, {span[1]:.3f}]" if span else "")
    better = None if majority is None else majority["better"]
    return {
        "stillroom.gap_closed": share,
        "stillroom.better_than_majority": {True: "yes", False: "no", None: "unknown"}[better],
        "stillroom.headline": " ".join(facts["headline"])[:_LONGEST],
    }


def own_figures(report: Manifest, arm: str, seed: int) -> dict[str, float | None]:
    """Test metrics of one student."""
    row = report.facts["arms"][arm]
    return dict(row["per_seed"][row["seeds"].index(seed)])


def training_run(client: Any, place: str, training: str) -> str | None:
    """Id of the newest finished run of a training; None where it was not tracked, or its run is gone.

    Args:
        place: id of the experiment.
        training: key of the training.
    """
    with quiet():
        query = f"tags.`{TRAINING_TAG}` = '{training}' and attributes.status = 'FINISHED'"
        found = client.search_runs([place], query, max_results=1)
    return str(found[0].info.run_id) if found else None


def log_run(
    client: Any,
    run_id: str,
    tags: Mapping[str, str],
    report: Manifest,
    chosen: Manifest,
    corpus: Corpus,
    spec: Spec,
    *,
    with_curve: bool,
    page: Manifest | None = None,
) -> None:
    """Write everything but the model into an MLflow run; what the run has already is not written again.

    Parameters of a run cannot be changed: those that it has stay, also where the spec of a later registration differs.

    Args:
        tags: of the registration.
        with_curve: the run has no curve of the training yet.
        page: manifest of stage report.
    """
    store = corpus.store
    with quiet():
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        run = client.get_run(run_id)
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        params = [Param(name, value) for name, value in parameters(spec).items() if name not in run.data.params]
        for start in range(0, len(params), _PARAMS):
            client.log_batch(run_id, params=params[start : start + _PARAMS])
        now, points = int(time.time() * 1000), []
        if with_curve:
            history = json.loads(store.get(chosen.output(kind="history").name))
            points = [Metric(name, value, now, step) for name, value, step in curve(history)]
        points += [
            Metric(name, value, now, 0)
            for name, value in figures(report, chosen.facts["arm"], chosen.facts["seed"]).items()
            if run.data.metrics.get(name) != value
        ]
        for start in range(0, len(points), _METRICS):
            client.log_batch(run_id, metrics=points[start : start + _METRICS])
        manifest = corpus.manifest
        data = Dataset(
            name=corpus.title,
            digest=manifest.digest[:32],  # MLflow takes at most 36 characters; the whole digest is a tag
            source_type="stillroom",
            source=json.dumps({"manifest": manifest.name}),
            profile=json.dumps(_profile(corpus)),
        )
        if data.digest not in {each.dataset.digest for each in run.inputs.dataset_inputs}:
            client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "train, val, test")])])
        _log_files(client, run_id, report, store, page)


def lineage(report: Manifest, chosen: Manifest, corpus: Corpus, upstream: Sequence[Manifest]) -> dict[str, str]:
    """Tags that lead from a registered version back to every manifest and weight it came from."""
    tags = {
        "stillroom.manifest.ingest": corpus.manifest.digest,
        f"stillroom.manifest.{chosen.stage}": chosen.digest,
        "stillroom.manifest.evaluate": report.digest,
        "stillroom.corpus": corpus.title,
        "stillroom.patient_leakage": leakage_text(images_without_patient(corpus.catalog)) or "checked",
        "stillroom.student": chosen.key,
        "stillroom.seed": str(chosen.facts["seed"]),
        "stillroom.trained_on": ("labels" if chosen.facts["arm"] == LABELS_ONLY else "labels and teachers"),
    }
    if FACT in chosen.facts:
        tags[TAG] = json.dumps(chosen.facts[FACT], sort_keys=True)
    for manifest in (corpus.manifest, chosen, report, *upstream):
        tags[f"stillroom.version.{manifest.stage}"] = str(manifest.version)
    for manifest in upstream:
        name = str(manifest.facts.get("teacher") or manifest.key[:12])
        tags[f"stillroom.manifest.{manifest.stage}.{name}"] = manifest.digest
        if "weights" in manifest.facts:
            tags[f"stillroom.weights.{name}"] = str(manifest.facts["weights"])
    return tags


def _log_files(client: Any, run_id: str, report: Manifest, store: Store, page: Manifest | None) -> None:
    # Names stay as they are, so that the report's links to its plots hold. None of these shows a patient.
    for kind in ("report", "metrics", "confusion", "reliability"):
        client.log_artifact(run_id, str(store.local_path(report.output(kind=kind).name)), "report")
    if page is not None:
        # Of a private corpus the copy without pictures: nobody can erase what MLflow keeps.
        shared = page.output(kind="html_shared" if page.facts["private"] else "html")
        client.log_artifact(run_id, str(store.local_path(shared.name)), "report")
        client.log_artifact(run_id, str(store.local_path(page.output(kind="card").name)), "report")


def _profile(corpus: Corpus) -> dict[str, int]:
    return {
        "images": sum(int(shard.used.sum()) for shard in corpus.shards),
        "labelled": sum(int(shard.labelled.sum()) for shard in corpus.shards),
    }


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for i, inner in enumerate(value):
            yield from _flat(f"{prefix}.{i}", inner)
    else:
        yield prefix, value
