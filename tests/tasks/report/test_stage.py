"""The stage report: what it stores, what may leave the store, and when it is found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from infra.storage.stage_cache import read_output
from tasks.pipeline.context import Context
from tasks.report.stage import ReportWork, write_report
from tests.tasks.report.conftest import JudgedLine, export_of
from tests.tasks.trained import tiny_spec


def private(line: JudgedLine) -> JudgedLine:
    """The line as that of a private corpus."""
    section = line.spec.corpus
    assert section is not None
    return replace(line, spec=line.spec.model_copy(update={"corpus": section.model_copy(update={"private": True})}))


def test_a_public_corpus_has_one_page_and_a_card(judged: Callable[[str], JudgedLine]) -> None:
    found = judged("single").page()
    assert [output.meta["kind"] for output in found.outputs] == ["html", "card"]
    assert all(output.name.startswith("reports/tiny/page-") for output in found.outputs)


def test_pictures_of_a_private_corpus_stay_in_the_store(judged: Callable[[str], JudgedLine]) -> None:
    line = private(judged("single"))
    found = line.page()
    assert [output.meta["kind"] for output in found.outputs] == ["html", "html_shared", "card"]
    pages = {kind: read_output(line.corpus.store, found.output(kind=kind)) for kind in ("html", "html_shared", "card")}
    assert b"<img" in pages["html"]
    keys = [str(key).encode() for shard in line.corpus.shards for key in shard.keys]
    for kind in ("html_shared", "card"):
        assert b"<img" not in pages[kind]
        assert not [key for key in keys if key in pages[kind]]


def test_it_is_found_again_and_made_anew_for_another_gate(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("single")
    made = line.page()
    context = Context(line.corpus.store)
    again = write_report(context, line.corpus, line.report, line.gate, line.models, line.spec)
    assert (again.cached, again.manifest.digest) == (True, made.digest)
    other = line.gate.model_copy(update={"key": "f" * 64})
    assert ReportWork(context, line.corpus, line.report, other, line.models, line.spec).lookup() is None


def test_an_export_is_another_page(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("single")
    context = Context(line.corpus.store)
    keys = [
        ReportWork(context, line.corpus, line.report, line.gate, line.models, line.spec, export=export).key
        for export in (None, export_of(line))
    ]
    assert keys[0] != keys[1]


def test_the_same_inputs_make_the_same_bytes(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("multilabel")
    first = line.page()
    for output in first.outputs:
        line.corpus.store.delete(output.name)
    assert line.page().digest == first.digest


def test_the_name_of_the_model_is_the_title(judged: Callable[[str], JudgedLine]) -> None:
    line = judged("single")
    named = replace(line, spec=tiny_spec(line.corpus.store, "register.name=retina"))  # type: ignore[arg-type]
    card = read_output(line.corpus.store, named.page().output(kind="card")).decode()
    assert card.startswith("# Model card: retina\n")
    assert "models:/retina@champion" in card
