"""Two flows that ingest the same corpus into one store at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.storage.store import open_store
from tasks.maintenance.verify import verify
from tests.line import Place
from tests.s3server import S3Server

SPEC = """
name: together
store: "{store}"
corpus:
  adapter: phantom-fundus
  root: {root}
  phantom: {{size: 64, labelled: 48, unlabelled: 32, val: 24, test: 24, seed: 5}}
ingest: {{shard_size: 4}}
teachers: [{{name: t, model: micro_m}}]
student: {{model: micro_xs}}
run: {{cluster: {{workers: 1}}}}
"""


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_both_succeed_with_one_result(kind: str, tmp_path: Path, s3_server: S3Server, prefect_server: str) -> None:
    store = str(tmp_path / "store") if kind == "folder" else s3_server.url(s3_server.bucket(), "store")
    text = SPEC.format(store=store, root=tmp_path / "corpus")
    places = [Place(tmp_path / name, text=text, api=prefect_server) for name in ("one", "two")]
    flows = [place.start("ingest", str(place.spec)) for place in places]
    assert [flow.wait(300) for flow in flows] == [0, 0], [(p.root / "log").read_text()[-2000:] for p in places]
    opened = open_store(store)
    assert verify(opened).sound
    assert len(opened.sizes("manifests/ingest/")) == 1
