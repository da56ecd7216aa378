"""What people want to know of a student first, in one line each: shown on the report's page and with every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.compute as pc

from infra.storage.manifest import Manifest
from infra.storage.stage_cache import read_output
from infra.storage.store import Store
from tasks.data.catalog import from_parquet
from tasks.drawing.markdown import interval_text, number
from tasks.evaluate.titles import METRIC_TITLES
from tasks.gate.rules import PASSED

SITE = "site"


def verdict_text(gate: Mapping[str, Any]) -> str:
    """The gate's verdict and the rules that decided against the student.

    Args:
        gate: facts of stage gate.
    """
    against = [f"{rule['rule']} ({rule['verdict']})" for rule in gate["rules"] if rule["verdict"] != PASSED]
    if gate["verdict"] == PASSED:
        return f"passed every rule ({len(gate['rules'])})" if gate["rules"] else "passed: no rule was asked for"
    return f"{gate['verdict']}: {', '.join(against) or gate['why']}"


def difference_text(gate: Mapping[str, Any]) -> str:
    """How much better the student is than the champion, with its interval.

    Args:
        gate: facts of stage gate.
    """
    found = gate.get("champion")
    if found is None:
        return "nobody serves yet: there is no champion to compare with"
    if found.get("difference") is None:
        return f"not compared with version {found['version']}: {found.get('reason') or 'no reason is given'}"
    value, title = found["difference"]["value"], METRIC_TITLES.get(found["metric"], found["metric"])
    told = f"{value:+.3f}{interval_text(found['difference']['interval'])} {title}"
    return f"{told} (above 0 is better; {number(found['new'])}, version {found['version']} {number(found['champion'])})"


def worst_site_text(report: Mapping[str, Any]) -> str:
    """The site with the worst main metric; where sites are not known, of what else is.

    Args:
        report: facts of stage evaluate.
    """
    groups: Mapping[str, Any] = report.get("groups") or {}
    worst: Mapping[str, Any] = groups.get("worst") or {}
    if not worst:
        return "not known: no two sites have enough test images"
    title = METRIC_TITLES.get(report["metric"], report["metric"])
    attribute = SITE if SITE in worst else next(iter(worst))
    row = worst[attribute]
    whole = f"{number(groups.get('whole'))} on all"
    told = f"{title} {number(row['value'])}{interval_text(row['interval'])} on {row['images']:,} images, {whole}"
    if attribute == SITE:
        return f"{row['group']}: {told}"
    return f"sites are not known; worst {attribute} is {row['group']}: {told}"


def drift_text(drift: Mapping[str, Any] | None) -> str:
    """Whether today's images differ from those of the champion.

    Args:
        drift: {verdict, why, signals} of stage drift; None: nobody looked.
    """
    if not drift:
        return "not looked for"
    names = [str(each["name"]) for each in drift.get("signals", ()) if each.get("drifted")]
    named = f" ({', '.join(names)})" if names else ""
    return f"{drift['verdict']}{named}" + (f": {drift['why']}" if drift.get("why") else "")


def drift_of(facts: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What stage drift found, in the facts of a run's steps; None where there is no such step."""
    found = facts.get("drift")
    return found.get("drift", found) if found else None


def quarantined(corpus: Manifest) -> int:
    """Files that could not be read and were kept out, of an ingest or of several together."""
    return int(corpus.facts.get("quarantined", len(corpus.quarantine)))


def ungradable(store: Store, corpus: Manifest) -> int:
    """Images that nobody can grade, by the catalog of an ingest.

    Raises:
        CorruptError: the catalog is damaged.
    """
    catalog = from_parquet(read_output(store, corpus.output(kind="catalog")))
    if "gradable" not in catalog.column_names:
        return 0
    return int(pc.sum(pc.equal(catalog["gradable"], False)).as_py() or 0)
