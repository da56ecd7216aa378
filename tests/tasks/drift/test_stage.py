"""New images against those of a champion in a real MLflow, one cause of drift a test."""

from __future__ import annotations

import json

import numpy as np
import pytest

from infra.errors import UsageError
from infra.servers.tracking import connect
from infra.storage.stage_cache import read_output
from tasks.drift.stage import drift
from tasks.pipeline.context import Context
from tests.tasks.drift.conftest import MIX
from tests.tasks.drift.grown import NAME, NEW, OLD, Served, drifted, labels_of, signal

SEEN = {
    "label prior of new images",
    "label prior of all images",
    "camera mix",
    "site mix",
    "classes that the teachers name",
    "confidence of the teachers",
    "embedding of the teachers",
    "appearance",
}


def test_more_images_of_the_same_kind_are_no_drift(served: Served) -> None:
    found = served.drift(served.grown(MIX))
    assert {each["name"] for each in found.facts["signals"]} == SEEN
    assert drifted(found) == []
    assert (found.facts["verdict"], found.facts["new"]) == ("none", NEW)
    assert found.facts["why"] == "8 signals within their limits or within chance against version 1"


def test_other_classes_among_new_images_are_drift(served: Served) -> None:
    rng = np.random.default_rng(0)
    label = {number: 0 if rng.random() < 0.6 else int(rng.integers(3)) for number in range(OLD, OLD + NEW)}
    known = dict(zip(served.corpus.catalog["key"].to_pylist(), served.corpus.catalog["label"].to_pylist(), strict=True))
    columns = {**MIX, "label": lambda number: label.get(number, known.get(f"train-{number:04d}"))}
    found = served.drift(served.grown(columns))
    assert drifted(found) == ["label prior of new images", "label prior of all images"]
    assert found.facts["verdict"] == "drift"
    assert found.facts["why"].startswith("label prior of new images 0.")
    assert found.facts["why"].endswith("(limit 0.05) against version 1")


def test_a_camera_that_was_never_seen_is_drift(served: Served) -> None:
    columns = {**MIX, "camera": lambda number: "z" if number >= OLD and number % 3 == 0 else "xy"[number % 2]}
    found = served.drift(served.grown(columns))
    assert drifted(found) == ["camera mix"]
    assert signal(found, "camera mix")["note"] == "1 never seen before"
    assert signal(found, "camera mix")["value"] == pytest.approx(1 / 3, abs=0.1)


def test_another_site_is_drift(served: Served) -> None:
    found = served.drift(served.grown({**MIX, "site": lambda number: "ab"[number >= OLD]}))
    assert drifted(found) == ["site mix"]
    assert signal(found, "site mix")["value"] == 1


def test_images_that_look_otherwise_are_drift_by_what_teachers_say_and_by_their_pixels(served: Served) -> None:
    found = served.drift(served.grown(MIX, black=range(OLD, OLD + NEW // 2)))
    assert {"embedding of the teachers", "appearance"} <= set(drifted(found))
    assert not signal(found, "label prior of new images")["drifted"]


def test_without_soft_labels_pixels_tell(served: Served) -> None:
    found = served.drift(served.grown(MIX, black=range(OLD, OLD + NEW // 2)), teach=False)
    assert drifted(found) == ["appearance"]


def test_a_distance_below_its_limit_is_no_drift_however_sure(served: Served) -> None:
    now = served.grown({**MIX, "site": lambda number: "ab"[number >= OLD]})
    found = served.drift(now, "drift.limits.site=1.0")
    assert signal(found, "site mix")["p"] < 0.01
    assert found.facts["verdict"] == "none"


def test_a_signal_whose_limit_is_null_is_not_asked(served: Served) -> None:
    found = served.drift(served.grown({**MIX, "site": lambda number: "ab"[number >= OLD]}), "drift.limits.site=null")
    assert {each["name"] for each in found.facts["signals"]} == SEEN - {"site mix"}
    assert found.facts["verdict"] == "none"


def test_too_few_new_images_say_nothing(served: Served) -> None:
    found = served.drift(served.grown({**MIX, "site": lambda number: "ab"[number >= OLD]}, new=20))
    assert found.facts["verdict"] == "none"
    assert found.facts["why"].endswith("20 training images are new since version 1, too few to judge (drift.least)")


def test_labels_that_were_corrected_are_drift_of_the_whole(served: Served) -> None:
    found = served.drift(served.grown({**MIX, "label": lambda number: 0}, new=0))
    assert drifted(found) == ["label prior of all images"]
    note = signal(found, "label prior of all images")["note"]
    assert note.endswith("labels were corrected")
    assert 60 < int(note.split()[0]) < OLD


def test_without_a_champion_nothing_is_known(served: Served) -> None:
    now = served.grown(MIX)
    spec = served.spec("register.name=nobody")
    found = drift(Context(now.store), now, served.report, labels_of(now, True), spec).manifest
    assert (found.facts["verdict"], found.facts["signals"], found.facts["champion"]) == ("unknown", [], None)
    assert found.facts["why"] == "nobody has no champion to compare with"


def test_a_champion_whose_images_are_gone_leaves_drift_unknown(served: Served) -> None:
    client = connect()
    client.create_registered_model("gone")
    client.set_registered_model_alias("gone", "champion", client.create_model_version("gone", source="/x").version)
    found = served.drift(served.grown(MIX), "register.name=gone")
    assert found.facts["verdict"] == "unknown"
    assert found.facts["why"] == "the store does not have the images that version 1 learned from"


def test_the_same_images_are_no_drift(served: Served) -> None:
    found = served.drift(served.corpus)
    assert found.facts["why"] == "no training image is new since version 1"
    assert found.facts["verdict"] == "none"


def test_what_was_compared_is_found_again_until_somebody_else_serves(served: Served) -> None:
    now = served.grown(MIX)
    served.drift(now)
    again = served.work(now)
    assert again.lookup() is not None
    client = connect()
    other = client.create_model_version(NAME, source="/x", tags={"stillroom.student": "other"})
    client.set_registered_model_alias(NAME, "champion", other.version)
    try:
        assert served.work(now).key != again.key
        # The student that serves now was compared with version 1, and still is.
        client.set_model_version_tag(NAME, other.version, "stillroom.student", "mine")
        first = client.get_model_version(NAME, "1").tags["stillroom.student"]
        client.set_model_version_tag(NAME, other.version, "stillroom.gate_against", f"1 {first[:12]}")
        assert served.work(now, student="mine").key == again.key
    finally:
        client.set_registered_model_alias(NAME, "champion", "1")


def test_the_output_says_what_the_facts_say(served: Served) -> None:
    found = served.drift(served.grown(MIX))
    assert json.loads(read_output(served.corpus.store, found.output(kind="drift"))) == found.facts


def test_the_page_tells_what_it_means_and_what_to_do(served: Served) -> None:
    now = served.grown({**MIX, "camera": lambda number: "z" if number >= OLD else "xy"[number % 2]})
    work = served.work(now)
    result = drift(Context(now.store), now, served.report_of("another"), labels_of(now, True), served.spec())
    (page,) = work.artifacts(result, 0.0)
    assert isinstance(page.content, str)
    assert page.content.startswith("# served: The images drifted")
    assert "- **camera mix**: New images come from other cameras" in page.content
    assert "--set drift.hold=false" in page.content
    assert page.description.startswith("drift: drift; camera mix 1 (limit 0.1)")


def test_a_report_without_a_student_is_refused(served: Served) -> None:
    report = served.report.model_copy(update={"facts": {**served.report.facts, "best": None}})
    with pytest.raises(UsageError, match="has no student to register"):
        drift(Context(served.corpus.store), served.corpus, report, [], served.spec())
