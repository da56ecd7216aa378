"""Keys and passwords are planted where people put them; no byte that a run leaves behind repeats them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from tests.line import Place
from tests.s3server import SECRET, S3Server

TOKEN = "pLanted-session-token"
PASSWORD = "pLanted-passw0rd"

SPEC = """
name: planted
store: {store}
corpus:
  adapter: phantom-fundus
  root: corpus
  phantom: {{size: 64, labelled: 48, unlabelled: 8, val: 24, test: 24, seed: 5}}
ingest: {{shard_size: 16}}
teachers: [{{name: t, model: micro_m}}]
student: {{model: micro_xs}}
run: {{retries: 0, cluster: {{workers: 1}}}}
"""

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")


def _forms(data: bytes) -> bytes:
    """Bytes, and behind them what stands in them as base64."""
    found = [base64.b64decode(text[: len(text) // 4 * 4]) for text in _BASE64.findall(data)]
    return b"\n".join([data, *found])


def _holders(folder: Path) -> list[str]:
    planted = [text.encode() for text in (SECRET, TOKEN, PASSWORD, "PRIVATE KEY-----")]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(text in _forms(path.read_bytes()) for text in planted)]


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    (tmp_path / "database").write_bytes(b"\x00" + base64.b64encode(f"x{PASSWORD}y".encode() * 3))
    assert _holders(tmp_path) == [str(tmp_path / "database")]


def test_no_key_of_s3_is_left_behind(
    tmp_path: Path, s3_server: S3Server, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_server.bucket()
    good = Place(tmp_path / "good", text=SPEC.format(store=s3_server.url(bucket, "store")))
    done = good.run("ingest", str(good.spec))
    assert done.returncode == 0, done.stderr[-3000:]
    # The server takes or refuses a token that it does not know; both leave traces.
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    again = good.run("ingest", str(good.spec), "--set", "ingest.shard_size=8")
    texts = done.stdout + done.stderr + again.stdout + again.stderr
    assert [planted for planted in (SECRET, TOKEN) if planted in texts] == []
    assert _holders(tmp_path) == []
    assert _holders(s3_server.file(bucket, "store")) == []


def test_a_password_in_a_spec_ends_the_command_before_anything_keeps_it(tmp_path: Path) -> None:
    place = Place(tmp_path / "bad", text=SPEC.format(store=f"s3://bucket/p?endpoint=http://me:{PASSWORD}@127.0.0.1:9"))
    done = place.run("ingest", str(place.spec))
    assert done.returncode == 2
    assert "store holds a user name, password or key" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert _holders(tmp_path) == [str(place.spec)]
