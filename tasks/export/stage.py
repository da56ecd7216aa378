"""The stage export: the best student as `.pt2`, ONNX and int8 ONNX, each compared with PyTorch and timed here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from infra.digest import unit_key
from infra.errors import UsageError
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.data.export_formats import FILES
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, run_stage, slug
from tasks.spec import Spec

STAGE, VERSION = "export", 1


class ExportWork(StageWork):
    """Export the student that a report calls best.

    Outputs by `meta["kind"]`: pt2, onnx, and onnx_int8 where int8 is offered. Facts: {model, student, arm, seed, input,
    output, formats, parameters, multiply_adds, machine}; `formats` has a row a format
    (`tasks.export.formats.Format.to_json`). Times are those of the machine that made the manifest: no time enters the
    key.

    Raises:
        UsageError: the report has no student, or it is not among the models.
        CorruptError: an image, the student or the report's table is not what the store promises.
        PermanentError: the student cannot be exported, or a float32 format does not answer as PyTorch does.
        CancelledError: the run was asked to stop.
    """

    stage, version = STAGE, VERSION

    def __init__(self, context: Context, corpus: Corpus, report: Manifest, models: Sequence[Manifest]) -> None:
        super().__init__(context)
        self.corpus, self.report = corpus, report
        best = report.facts["best"]
        found = [model for model in models if best is not None and model.key == best["key"]]
        if not found:
            raise UsageError(f"report {report.key[:12]} names no best student among the {len(models)} models given")
        self.student = found[0]

    @cached_property
    def key(self) -> str:
        """Of the report (its test images and labels), the student, and the training images that int8 may see."""
        return unit_key(
            STAGE,
            VERSION,
            inputs=[self.report.key, *(shard.id for shard in self.corpus.of_split("train"))],
            section={},
            weights=[self.student.output(kind="model").id],
        )

    def says(self, manifest: Manifest) -> str:
        return "; ".join(_in_short(row) for row in manifest.facts["formats"])

    def make(self) -> Made:
        from tasks.export.formats import export_student

        found = export_student(self.corpus, self.report, self.student, stop=self.context.stop)
        outputs = []
        for each in found.formats:
            if each.offered and each.data is not None:
                folder, ending = f"exports/{self.corpus.title}/{self.key[:12]}", FILES[each.name].partition(".")[2]
                outputs.append(
                    self.cache.put_object(
                        f"{folder}/network-{{sha8}}.{ending}",
                        each.data,
                        id=f"{self.key}-{each.name}",
                        unit=self.key,
                        meta={"kind": each.name},
                    )
                )
        own = {name: self.student.facts[name] for name in ("model", "arm", "seed")}
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[self.report.digest, self.student.digest, self.corpus.manifest.digest],
            section={},
            outputs=outputs,
            facts={**own, "student": self.student.key, **found.facts()},
        )
        return Made(manifest, made=len(outputs), total=len(outputs))

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        facts = result.manifest.facts
        text = (
            f"{facts['model']}: {facts['parameters']:,} parameters, {facts['multiply_adds'] / 1e6:.1f} M multiply-adds "
            f"an image; measured on {facts['machine']}"
        )
        # Once, not in each row of the format.
        text = "; ".join([text, *(f"{row['format']}: {row['why']}" for row in facts["formats"] if row["why"])])
        rows = [line for row in facts["formats"] for line in _lines(row)]
        return [Artifact(key=f"export-{slug(self.corpus.title)}", description=text, content=rows)]


def export(context: Context, corpus: Corpus, report: Manifest, models: Sequence[Manifest]) -> StageResult:
    """Run the stage; see `ExportWork`."""
    return run_stage(ExportWork(context, corpus, report, models))


def _in_short(row: dict[str, Any]) -> str:
    if not row["offered"]:
        return f"{row['format']} is not offered: {row['why']}"
    times = [each["median_ms"] for each in row["latency"] if (each["batch"], each["threads"]) == (1, 1)]
    return f"{row['format']} {row['bytes'] / 1000:.0f} kB, {min(times):.3g} ms"


def _lines(row: dict[str, Any]) -> list[dict[str, str]]:
    """A format as rows of a table, one a runtime, batch size and number of threads."""
    head = {"format": row["format"], "state": "offered" if row["offered"] else "not offered"}
    if row["bytes"] is None:
        return [head]
    parity = row["parity"]
    head |= {
        "kB": f"{row['bytes'] / 1000:.0f}",
        "largest difference": f"{parity['largest']:.2g}",
        "same class": f"{parity['agreement']:.1%}",
    }
    return [
        {
            **head,
            "runtime": each["runtime"],
            "batch": str(each["batch"]),
            "threads": str(each["threads"]),
            "median ms": f"{each['median_ms']:.3g}",
            "p95 ms": f"{each['p95_ms']:.3g}",
        }
        for each in row["latency"]
    ]


def _bind(context: Context, spec: Spec, *, corpus: Manifest, report: Manifest, models: Sequence[Manifest]) -> Any:
    return ExportWork(context, Corpus(context.store, corpus), report, models)


EXPORT = Stage(STAGE, _bind, folders=("exports/",))
