"""The pinned npm package: whose registry is asked, and that nothing else is taken."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import CorruptError, TransientError
from tasks.page.runtime import browser_runtime, registry


@pytest.fixture
def wrong_registry() -> Iterator[str]:
    """A registry that answers every request with other bytes."""

    class Wrong(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"not the package")

        def log_message(self, *given: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_registry_may_be_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert registry() == "https://registry.npmjs.org"
    (tmp_path / ".npmrc").write_text("fund=false\nregistry=https://npm.hospital.example/all/\n")
    assert registry() == "https://npm.hospital.example/all"
    monkeypatch.setenv("npm_config_registry", "https://mirror.example/")
    assert registry() == "https://mirror.example"


def test_another_package_is_not_taken_and_not_kept(
    home: Path, wrong_registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", wrong_registry)
    with pytest.raises(CorruptError, match="its sha512 is another"):
        browser_runtime()
    assert list((home / "npm").iterdir()) == []


def test_a_registry_that_is_away_can_be_tried_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(TransientError, match="npm_config_registry"):
        browser_runtime()
