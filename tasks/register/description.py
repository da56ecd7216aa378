"""What people read of a version, and of the model that it is a version of, on MLflow's pages; Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.servers.tracking import quiet
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.drawing.markdown import PHANTOM, interval_text, number, table_text
from tasks.drawing.purpose import RESEARCH_USE, limits, pictures_of, purpose

_SIDES = ("sensitivity", "specificity")
_TITLES = {
    "qwk_cut_points": "quadratic kappa, cut points",
    "referable_auc": "referable AUC",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "grade_auc": "AUC of grades",
    "ece": "ECE",
}
_MAIN = ("referable_auc", "macro_f1", "auc", "accuracy", "ece")


def version_description(
    name: str, report: Manifest, student: Manifest, corpus: Corpus, gate: Manifest | None, page: Manifest | None
) -> str:
    """Of one version: purpose, verdict, main figures with intervals, limits, how to load, where the report is."""
    facts = report.facts
    parts = [
        f"**{RESEARCH_USE}**",
        *([PHANTOM] if facts["phantom"] else []),
        "\n".join(purpose(facts, corpus.modality)),
        f"`{student.facts['model']}`, {student.facts['parameters']:,} parameters, input "
        f"{student.facts['input_size']} x {student.facts['input_size']} pixels; arm `{student.facts['arm']}`, seed "
        f"{student.facts['seed']}.",
        *([] if gate is None else [_verdict(gate.facts)]),
        "### Figures\n\n" + _figures(facts, student, None if gate is None else gate.facts),
        "### Limits\n\n" + "\n".join(f"- {line}" for line in limits(facts)),
        "### How to load\n\n" + _loading(name),
        "### Report\n\n" + _place(page),
    ]
    return "\n\n".join(parts) + "\n"


def model_description(corpus: Corpus) -> str:
    """Of the registered model, of which each retrain may add a version."""
    return (
        f"Students that look at {pictures_of(corpus.modality)}, distilled by Stillroom from {corpus.title}. Classes: "
        f"{', '.join(corpus.classes)}.\n\n**{RESEARCH_USE}**\n\nThe alias `champion` is the version in use, "
        "`challenger` the newest one that passed the gate; a version without an alias did not pass. Each version's "
        "description has its figures and says how it is loaded."
    )


def link_figures(client: Any, run_id: str, model_id: str, figures: Mapping[str, float], corpus: Corpus) -> None:
    """Log a student's test figures on its logged model, with the data that they are of.

    Args:
        figures: as `tasks.register.mlflow_run.figures` gives them; those of the student itself are taken.
    """
    with quiet():
        from mlflow.entities import Metric

        own = [
            Metric(
                name,
                value,
                # That of the run's own value, which MLflow then does not write again.
                client.get_metric_history(run_id, name)[-1].timestamp,
                0,
                model_id=model_id,
                dataset_name=corpus.title,
                dataset_digest=corpus.manifest.digest[:32],
                run_id=run_id,
            )
            for name, value in figures.items()
            if name.startswith("test_")
        ]
        client.log_batch(run_id, metrics=own)


def _verdict(gate: Mapping[str, Any]) -> str:
    text = f"**Gate: {gate['verdict']}**"
    return f"{text}: {gate['why']}" if gate["why"] else f"{text}, by {len(gate['rules'])} rules."


def _figures(facts: Mapping[str, Any], student: Manifest, gate: Mapping[str, Any] | None) -> str:
    row = facts["arms"][student.facts["arm"]]
    figures = row["per_seed"][row["seeds"].index(student.facts["seed"])]
    wanted = dict.fromkeys([facts["metric"], *_MAIN])
    cells = [
        [
            _TITLES.get(metric, metric.replace("_", " ")),
            number(figures[metric]),
            number(row["values"][metric]) + interval_text(row["interval"].get(metric)),
        ]
        for metric in wanted
        if metric in figures
    ]
    point = None if gate is None else gate["operating_point"]
    if point is not None:
        for side in _SIDES:
            shown = number(point[side]["value"]) + interval_text(point[side]["interval"])
            cells.append([f"{side} at threshold {point['threshold']:.3f}", shown, "-"])
    seeds, images, patients = len(row["seeds"]), facts["images"]["test"], facts["patients"]
    head = ["", "this version", f"mean of {seeds} seeds, 95 % interval"]
    if seeds == 1:
        # The mean is the figure itself.
        head = ["", "this version, 95 % interval"]
        cells = [[name, own if mean == "-" else mean] for name, own, mean in cells]
    return (
        f"On {images:,} test images of {patients:,} patients.\n\n"
        + table_text(head, cells)
        + "\n\n"
        + "\n".join(f"- {line}" for line in facts["headline"])
    )


def _loading(name: str) -> str:
    return (
        f"Put the number of this version in place of VERSION, or `@champion` in place of `/VERSION`.\n\n"
        f"```\nstillroom pull {name}/VERSION --to student\nstillroom predict student photograph.jpg\n"
        f"stillroom page {name}/VERSION --to page\n```\n\n"
        "```python\nimport mlflow\nimport numpy as np\n\n"
        f'model = mlflow.pyfunc.load_model("models:/{name}/VERSION")\n'
        'with open("photograph.jpg", "rb") as file:\n'
        "    probabilities = model.predict(np.array([file.read()], dtype=object))\n```"
    )


def _place(page: Manifest | None) -> str:
    if page is None:
        return "The run of this version has it among its artifacts, in the folder `report`."
    kind = "html_shared" if page.facts["private"] else "html"
    file = page.output(kind=kind).name.rpartition("/")[2]
    text = f"The run of this version has the whole report among its artifacts: `report/{file}`"
    if page.facts["private"]:
        return f"{text}, without pictures; the copy with pictures stays in the store."
    return f"{text}."
