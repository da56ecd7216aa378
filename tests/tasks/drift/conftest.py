"""A champion that serves, registered in a real MLflow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.evaluate.stage import evaluate
from tasks.pipeline.context import Context
from tasks.register.stage import register
from tests.databases import copy_databases
from tests.tasks.drift.grown import NAME, SHAPE, Served, with_columns
from tests.tasks.machine import own_machine
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[Served]:
    """Version 1 of `served`, champion, and its corpus: site a, cameras x and y in turns."""
    folder = tmp_path_factory.mktemp("home")
    with own_machine(folder):
        copy_databases(folder)
        store = LocalStore(tmp_path_factory.mktemp("drift") / "store")
        corpus = with_columns(tiny_corpus(store, **SHAPE), MIX)
        student = trained(corpus, "taught")
        spec = tiny_spec(store, f"register.name={NAME}", "evaluate.baselines=false", "evaluate.compare=false")
        context = Context(store, cluster, spec.run)
        report = evaluate(context, corpus, [student], spec).manifest
        made = register(context, report, student, corpus, [], spec).manifest
        assert made.facts["aliases"] == ["challenger", "champion"]
        yield Served(corpus, report)


MIX = {"site": lambda number: "a", "camera": lambda number: "xy"[number % 2]}
