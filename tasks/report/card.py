"""The model card: what a student is, in Markdown, after Mitchell et al. 2019 (arXiv:1810.03993)."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.drawing.markdown import PHANTOM
from tasks.drawing.purpose import RESEARCH_USE
from tasks.report import tables
from tasks.report.content import Content
from tasks.report.tables import Table

_LOADING = """\
With Stillroom, checked file by file:

    stillroom pull {name}@champion --to student
    stillroom predict student photograph.jpg

With MLflow, from Python:

    import mlflow, numpy as np
    model = mlflow.pyfunc.load_model("models:/{name}@champion")
    with open("photograph.jpg", "rb") as file:
        print(model.predict(np.array([file.read()], dtype=object)))

`artifacts/about.json` names the classes, `artifacts/preprocessing.json` says what is done to a photograph.
"""


def card_of(content: Content) -> bytes:
    """UTF-8 Markdown without pictures, keys of images or places, so that it may leave the store."""
    facts, gate = content.facts, content.gate
    parts = [
        f"# Model card: {content.title}",
        f"**{RESEARCH_USE}**",
        *([PHANTOM] if facts["phantom"] else []),
        "## What it is\n\n" + _list(f"{name}: {text}" for name, text in content.student.items()),
        "## What it is for\n\n" + _list(content.purpose),
        "## What it is not for\n\n" + _list(content.not_for),
        f"## Gate: {gate['verdict']}\n\n" + _rules(content),
        "## Figures\n\n"
        + "\n\n".join(
            [
                _list(facts["headline"]),
                f"On {facts['images']['test']:,} test images of {facts['patients']:,} patients. {content.intervals}",
                tables.arms(facts).markdown(),
                *(table.markdown() for table in (tables.grades(facts), content.screening) if table is not None),
                f"### By class\n\nHere {content.how_decided}.",
                tables.per_class(facts, content.confusion).markdown(),
                *(f"### By {name}\n\n{table.markdown()}" for name, table in tables.groups(facts)),
            ]
        ),
        *_formats(content),
        "## Population and data\n\n" + _data(content),
        "## Limits\n\n" + _list(content.limits),
        "## How to load\n\n" + _LOADING.format(name=content.title).rstrip(),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _rules(content: Content) -> str:
    rules = content.gate["rules"]
    if not rules:
        return "No rule was asked for (`gate.enabled` is false)."
    rows = [[rule["rule"], rule["verdict"], rule["figure"], rule["asks"]] for rule in rules]
    text = Table(["rule", "verdict", "figure", "asked for"], rows).markdown()
    return text if content.looks is None else f"{text}\n\n{content.looks}"


def _formats(content: Content) -> list[str]:
    if content.export is None:
        return []
    found = [tables.formats(content.export), tables.latency(content.export)]
    return ["## Formats and speed\n\n" + "\n\n".join(table.markdown() for table in found if table is not None)]


def _data(content: Content) -> str:
    rows = [
        [each.name + (" (private)" if each.private else ""), each.adapter, each.use, each.licence, each.citation or "-"]
        for each in content.sources
    ]
    return "\n\n".join(
        [
            Table(["corpus", "layout", "use", "licence", "to cite"], rows).markdown(),
            tables.counts(content.corpus).markdown(),
        ]
    )
