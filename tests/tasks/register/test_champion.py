"""Which aliases a version gets by the gate's verdict and the spec's policy."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from infra.storage.manifest import Manifest
from tasks.register.aliases import decide


def version(number: int) -> SimpleNamespace:
    return SimpleNamespace(version=number, tags={})


def gate(verdict: str = "passed", champion: str = "") -> Manifest:
    facts = {"verdict": verdict, "why": "thumbnails: better by -0.1", "champion": None}
    if champion:
        facts["champion"] = {"version": champion}
    return Manifest(stage="gate", version=2, key="k", inputs=[], section={}, outputs=[], facts=facts)


@pytest.mark.parametrize(
    ("promote", "champion", "judged", "alias", "words"),
    [
        ("by_hand", None, gate(), "challenger", "a person promotes"),
        ("by_hand", 1, gate(champion="1"), "challenger", "a person promotes"),
        ("by_hand", 2, gate(champion="2"), "champion", "already"),
        ("automatic", None, gate(), "champion", "there was no champion"),
        ("automatic", 1, gate(champion="1"), "champion", "passed every rule of the gate, beside version 1"),
        ("automatic", 3, gate(champion="1"), "challenger", "is version 3 by now, and the gate compared with version 1"),
        ("automatic", 3, gate(), "challenger", "the gate compared with nobody"),
        ("automatic", None, gate(champion="1"), "challenger", "the champion is nobody by now"),
        ("automatic", 1, gate("failed", "1"), "", "the gate is closed: thumbnails: better by -0.1"),
        ("by_hand", None, gate("not judged"), "", "the gate is closed"),
        ("automatic", None, None, "champion", "there was no champion"),
    ],
)
def test_verdict(promote: str, champion: int | None, judged: Manifest | None, alias: str, words: str) -> None:
    found = decide(promote, version(2), None if champion is None else version(champion), judged)
    assert found.alias == alias
    assert words in found.reason
