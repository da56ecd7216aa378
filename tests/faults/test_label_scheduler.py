"""A Dask scheduler that is killed in the middle of labelling and comes back: the same run goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.test_ingest_kill import Dask
from tests.line import Place, states

SPEC = """
name: gone
store: store
corpus:
  adapter: phantom-fundus
  root: corpus
  phantom: {{size: 64, labelled: 40, unlabelled: 40, val: 10, test: 10, seed: 9}}
ingest: {{shard_size: 8}}
views: {{size: 48, count: 2}}
teachers: [{{name: t, model: "python:tests.tasks.label.functions:teacher", version: "1", options: {{classes: 5}}}}]
student: {{model: micro_xs}}
run: {{device: cpu, cluster: {cluster}}}
"""


@pytest.fixture
def dask(tmp_path: Path, prefect_server: str) -> Iterator[Dask]:
    made = Dask(Place(tmp_path / "place", text="{}", api=prefect_server))
    made.place.spec.write_text(
        SPEC.format(cluster=f"{{kind: address, address: '{made.address}', tls: {made.tls}, wait: 60}}")
    )
    made.start()
    yield made
    made.stop()


def labelled(place: Place) -> dict[Path, bytes]:
    """Records of units of labels, which name their bytes."""
    return {path: path.read_bytes() for path in (place.store / "units/label").rglob("*.json")}


def test_labels_go_on_with_a_scheduler_that_came_back(dask: Dask) -> None:
    place = dask.place
    flow = place.start("label", str(place.spec))
    place.wait_until(flow, lambda p: len(labelled(p)) >= 3)
    dask.parts["scheduler"].kill()
    for part in dask.parts.values():
        part.wait()  # a worker ends when its scheduler is gone
    done = labelled(place)
    dask.start()
    assert flow.wait(300) == 0, (place.root / "log").read_text()[-3000:]
    made = re.findall(r"label with t: made (\d+) of (\d+)", (place.root / "log").read_text())
    assert int(made[0][0]) < int(made[0][1])
    found = labelled(place)
    assert len(found) > len(done)
    assert {path: found[path] for path in done} == done
    assert set(states(place.json("label", str(place.spec))).values()) == {"Cached"}
    assert place.json("verify", str(place.store))["defects"] == []
