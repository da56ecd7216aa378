"""The page: one HTML file with everything in it, for a laptop and for paper, in light and dark."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tasks.drawing.purpose import RESEARCH_USE
from tasks.report import tables
from tasks.report.charts import chart, legend
from tasks.report.content import Content

_MARKS = {"passed": "passed", "failed": "failed"}


def page_of(content: Content, *, pictures: bool) -> bytes:
    """UTF-8 HTML.

    Args:
        pictures: show the worst errors; False for a copy that leaves the store of a private corpus.
    """
    template = _environment().get_template("report.html")
    drawn: dict[str, Markup] = {}
    found = content.ranking
    if found is not None:
        drawn["roc"] = Markup(
            chart(
                found.roc,
                across="false alarms (1 - specificity)",
                up="sensitivity",
                title=f"ROC curves: {found.question}",
                diagonal=True,
                point=None if found.point is None else found.point[:2],
            )
        )
        drawn["recall"] = Markup(
            chart(
                found.recall,
                across="recall (sensitivity)",
                up="precision",
                title=f"Precision-recall curves: {found.question}",
                level=found.share,
                point=None if found.point is None else found.point[1:],
            )
        )
        drawn["roc_legend"] = Markup(legend(found.roc, "AUC"))
        drawn["recall_legend"] = Markup(legend(found.recall, "average precision"))
    calibrated = content.calibration
    many = content.facts["task"] == "multilabel"
    drawn["reliability"] = Markup(
        chart(
            calibrated.curves,
            across="predicted probability" if many else "confidence of the likeliest class",
            up="share that has the label" if many else "share right",
            title="Reliability of the student on test images",
            diagonal=True,
            dots=True,
        )
    )
    drawn["reliability_legend"] = Markup(legend(calibrated.curves))
    css = Markup(files(__package__).joinpath("report.css").read_text(encoding="utf-8"))
    text = template.render(
        page=content,
        tables=tables,
        css=css,
        marks=_MARKS,
        pictures=pictures,
        research_use=RESEARCH_USE,
        **drawn,
    )
    return (text.strip() + "\n").encode()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tasks.report", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
