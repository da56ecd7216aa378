"""Gc: what nothing leads to goes, everything else stays, and what stays is whole."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from flows.line import stages
from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.errors import CorruptError, PermanentError
from infra.servers.tracking import connect
from infra.settings import reload_settings
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache, UnitRecord
from infra.storage.store import LocalStore, Store
from tasks.maintenance import gc as collection
from tasks.maintenance.gc import RemovalPlan
from tasks.maintenance.under_way import run_record
from tasks.maintenance.verify import verify
from tests.tasks.corpora.layouts import csv, image, many_patients
from tests.tasks.ingest.specs import run, spec
from tests.tasks.maintenance.conftest import IngestedStore

DAYS = 86400


pytestmark = pytest.mark.usefixtures("home")


FOLDERS = [folder for stage in stages() for folder in stage.folders]


def collect(store: Store, **named: Any) -> RemovalPlan:
    """As the command does: with the folders of the line's stages."""
    return collection.collect(store, folders=FOLDERS, **named)


def age(store: LocalStore, days: float, prefix: str = "") -> None:
    """Let objects look as if they had been written so many days ago."""
    then = time.time() - days * DAYS
    for name in store.sizes(prefix):
        os.utime(store.local_path(name), (then, then))


def line(store: LocalStore, corpus: Manifest, name: str) -> list[Manifest]:
    """Soft labels, a student and its registration, as later stages commit them."""
    cache = StageCache(store)
    shard = corpus.outputs_where(kind="shard")[0]
    soft = cache.put_object("labels/{sha}-{sha8}.bin", name.encode(), id=f"{name:0>64}", unit=f"{name:0>64}")
    label = Manifest(stage="label", version=1, key="a" * 60 + name, inputs=[shard.id], section={}, outputs=[soft])
    model = cache.put_object("models/{sha8}.bin", f"model {name}".encode(), meta={"kind": "model"})
    student = Manifest(
        stage="distill",
        version=1,
        key="b" * 60 + name,
        inputs=[corpus.digest, label.key],
        section={},
        outputs=[model],
    )
    version = Manifest(
        stage="register", version=1, key="c" * 60 + name, inputs=[student.digest], section={}, outputs=[]
    )
    for manifest in (label, student, version):
        cache.commit(manifest)
    return [label, student, version]


def gone(plan: RemovalPlan) -> set[str]:
    return {item.name for item in plan.items}


def resized(kept: IngestedStore, cluster: Cluster) -> tuple[Manifest, Manifest]:
    """A second ingest at another size; the head moves to it."""
    before = kept.manifest
    return before, run(spec(kept.corpus, kept.store, ingest={"size": 18}), cluster).manifest


def test_nothing_goes_while_everything_is_young(kept: IngestedStore, cluster: Cluster) -> None:
    resized(kept, cluster)
    assert collect(kept.store).items == ()


def test_a_dry_run_lists_and_removes_nothing(kept: IngestedStore, cluster: Cluster) -> None:
    before, after = resized(kept, cluster)
    age(kept.store, 20)
    names = kept.store.sizes("")
    plan = collect(kept.store)
    own = [o for o in before.outputs if o not in after.outputs]
    assert not plan.deleted
    assert gone(plan) >= {before.name, *(o.name for o in own)}
    assert plan.kinds["shards"]["objects"] == 1 + len(before.outputs_where(kind="shard"))
    assert plan.kinds["catalogs"]["bytes"] == sum(o.bytes for o in own if o.meta["kind"] != "shard")
    assert plan.kept_objects + len(plan.items) == len(names)
    assert kept.store.sizes("") == names


def test_what_the_head_needs_stays_whole_and_cached(kept: IngestedStore, cluster: Cluster) -> None:
    before, after = resized(kept, cluster)
    age(kept.store, 20)
    plan = collect(kept.store, delete=True)
    left = kept.store.sizes("")
    assert not left.keys() & gone(plan)
    assert before.name not in left
    assert {o.name for o in after.outputs} <= left.keys()
    assert not any(name.startswith(before.outputs[0].name.rpartition("/")[0]) for name in left)
    report = verify(kept.store)
    assert (report.defects, report.strays) == ((), 0)
    nobody = Cluster(ClusterSection(kind="address", address="nowhere://0"))
    again = run(spec(kept.corpus, kept.store, ingest={"size": 18}), nobody)
    assert (again.made, again.manifest.digest) == (0, after.digest)
    assert collect(kept.store, delete=True).items == ()


def test_the_parents_of_a_head_stay(kept: IngestedStore, cluster: Cluster) -> None:
    for patient in range(50, 55):
        image(kept.corpus / f"train/{patient}_left.jpeg", patient)
    rows = many_patients(20) | {"50_left": 1, "51_left": 2}
    csv(kept.corpus / "trainLabels.csv", "image,level", [f"{name},{level}" for name, level in rows.items()])
    before = kept.manifest
    after = run(spec(kept.corpus, kept.store), cluster).manifest
    assert after.facts["parent"] == before.key
    age(kept.store, 20)
    assert collect(kept.store).items == ()


def test_a_recent_run_keeps_its_stages_and_an_old_one_does_not(kept: IngestedStore) -> None:
    recent, old = line(kept.store, kept.manifest, "1" * 4), line(kept.store, kept.manifest, "2" * 4)
    for name, made in (("recent", recent), ("old", old)):
        kept.store.put(f"runs/{name}.json", run_record(name, [(m.stage, m.key) for m in made[:2]]))
    age(kept.store, 20)
    age(kept.store, 10, "runs/recent")
    plan = collect(kept.store, registry=False)
    # Nothing leads from the student to its registration.
    assert gone(plan) == {
        "runs/old.json",
        *(m.name for m in [*old, recent[2]]),
        *(o.name for m in old for o in m.outputs),
    }
    assert gone(collect(kept.store, keep_days=5, registry=False)) > gone(plan)


def test_a_registered_version_keeps_all_that_it_was_made_from(kept: IngestedStore, cluster: Cluster) -> None:
    made = line(kept.store, kept.manifest, "1" * 4)
    client = connect()
    client.create_registered_model("student")
    tags = {"stillroom.key": made[2].key, "stillroom.manifest.distill": made[1].digest}
    client.create_model_version("student", source="file:///nowhere", tags=tags)
    resized(kept, cluster)
    age(kept.store, 20)
    assert not {m.name for m in made} & gone(collect(kept.store))
    assert not {o.name for o in kept.manifest.outputs} & gone(collect(kept.store))
    assert {m.name for m in made} <= gone(collect(kept.store, registry=False))


def test_a_registry_that_cannot_be_read_ends_it(
    kept: IngestedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    monkeypatch.setenv("STILLROOM_MLFLOW_URI", f"sqlite:///{tmp_path}/mlflow.db")
    reload_settings()
    with pytest.raises(PermanentError, match=r"cannot be read .* --no-registry"):
        collect(kept.store)
    assert collect(kept.store, registry=False).items == ()


def test_a_lost_registry_ends_it_only_where_something_was_registered(kept: IngestedStore, home: Path) -> None:
    assert collect(kept.store).items == ()
    assert not home.exists()
    line(kept.store, kept.manifest, "1" * 4)
    with pytest.raises(PermanentError, match="no such file"):
        collect(kept.store)


def test_nothing_younger_than_the_grace_goes(kept: IngestedStore) -> None:
    stray = StageCache(kept.store).put_object("labels/{sha}.bin", b"x")
    age(kept.store, 0.5)
    assert collect(kept.store).items == ()
    assert gone(collect(kept.store, grace_hours=11, keep_days=100)) == {stray.name}


def test_unfinished_work_stays_as_long_as_a_run_would(kept: IngestedStore) -> None:
    cache = StageCache(kept.store)
    output = cache.put_object("labels/{sha}.bin", b"x")
    cache.record("label", UnitRecord("u", (output,)))
    kept.store.put("checkpoints/f00d/000000001.pt", b"state")
    kept.store.put(f"checkpoints/{kept.manifest.key}/000000001.pt", b"of a finished stage")
    age(kept.store, 5)
    assert gone(collect(kept.store)) == {f"checkpoints/{kept.manifest.key}/000000001.pt"}
    age(kept.store, 20)
    assert {output.name, "units/label/u.json", "checkpoints/f00d/000000001.pt"} < gone(collect(kept.store))


def test_a_teachers_file_stays_as_long_as_its_labels(kept: IngestedStore) -> None:
    used, unused = "1" * 64, "2" * 64
    corpus = kept.manifest
    label = Manifest(stage="label", version=2, key="3" * 64, inputs=[], section={}, outputs=[], facts={"files": [used]})
    student = Manifest(
        stage="distill", version=1, key="4" * 64, inputs=[corpus.digest, label.key], section={}, outputs=[]
    )
    cache = StageCache(kept.store)
    for manifest in (label, student):
        cache.commit(manifest)
    for sha in (used, unused):
        kept.store.put(f"teachers/{sha}.onnx", b"a network")
    kept.store.put("runs/new.json", run_record("new", [("distill", student.key)]))
    age(kept.store, 5)
    assert not any(name.startswith("teachers/") for name in gone(collect(kept.store)))
    age(kept.store, 20)
    kept.store.put("runs/new.json", run_record("new", [("distill", student.key)]))
    assert {name for name in gone(collect(kept.store)) if name.startswith("teachers/")} == {f"teachers/{unused}.onnx"}


def test_what_a_person_put_into_the_store_is_never_touched(kept: IngestedStore) -> None:
    own = ["weights/best.pt", "notes.txt", "mine/0123456789abcdef.bin", "listings/other.parquet", "secrets/a.key"]
    for name in own:
        kept.store.put(name, b"mine")
    age(kept.store, 1000)
    assert collect(kept.store, delete=True, keep_days=0, grace_hours=0).items == ()


def test_half_written_files_of_dead_writers_are_swept(kept: IngestedStore) -> None:
    left = kept.store.root / "shards/.part-dead"
    left.write_bytes(b"half")
    assert collect(kept.store, delete=True).leftovers == ()
    assert left.exists()
    os.utime(left, (0, 0))
    assert len(collect(kept.store).leftovers) == 1
    assert left.exists()
    collect(kept.store, delete=True)
    assert not left.exists()


def test_manifests_go_before_what_they_name(kept: IngestedStore, cluster: Cluster) -> None:
    resized(kept, cluster)
    age(kept.store, 20)
    kinds = [item.kind for item in collect(kept.store).items]
    assert kinds.index("manifests") == 0
    assert max(i for i, k in enumerate(kinds) if k == "manifests") < kinds.index("catalogs")


def damage_head(kept: IngestedStore) -> str:
    kept.flip("heads/eyepacs", 3)
    return "heads/eyepacs"


def damage_manifest(kept: IngestedStore) -> str:
    kept.flip(kept.manifest.name, 3)
    return "manifests/ingest/"


def lose_manifest(kept: IngestedStore) -> str:
    kept.store.delete(kept.manifest.name)
    return "heads/eyepacs points at"


def damage_run(kept: IngestedStore) -> str:
    kept.store.put("runs/r.json", b'{"spec":"s","manifests":[["ingest","k"]]}')
    return "runs/r.json"


@pytest.mark.parametrize("damage", [damage_head, damage_manifest, lose_manifest, damage_run])
def test_what_cannot_be_read_ends_it_before_anything_goes(kept: IngestedStore, damage: Any) -> None:
    told = damage(kept)
    left = kept.store.sizes("")
    with pytest.raises(CorruptError, match=told):
        collect(kept.store, delete=True, grace_hours=0, keep_days=100)
    assert kept.store.sizes("") == left


def test_the_plan_is_json(kept: IngestedStore) -> None:
    kept.store.put("labels/0123456789.bin", b"x")
    age(kept.store, 20)
    told = json.loads(json.dumps(collect(kept.store).to_json()))
    assert told["items"] == [{"name": "labels/0123456789.bin", "kind": "labels", "bytes": 1}]
    assert (told["bytes"], told["deleted"]) == (1, False)


def test_a_registry_that_lacks_a_version_of_this_store_ends_it(kept: IngestedStore) -> None:
    made = line(kept.store, kept.manifest, "1" * 4)
    connect().create_registered_model("student")
    age(kept.store, 20)
    with pytest.raises(PermanentError, match=r"does not know a model version \?, registered from this store"):
        collect(kept.store, delete=True)
    assert all(kept.store.exists(manifest.name) for manifest in made)


def test_a_version_deleted_on_purpose_is_said(kept: IngestedStore) -> None:
    made = line(kept.store, kept.manifest, "1" * 4)
    connect().create_registered_model("student")
    age(kept.store, 20)
    plan = collect(kept.store, delete=True, versions_deleted=True)
    assert {m.name for m in made} <= gone(plan)
    assert collect(kept.store).items == ()
