"""One page of links and health of what `stillroom up` runs, for browsers on this machine; as JSON under /services."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from infra.servers.address import own_origins

REFRESH_SECONDS = 10

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Stillroom</title><meta http-equiv="refresh" content="{refresh}">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 3rem auto; padding: 0 1rem; color: #1c2430 }}
table {{ border-collapse: collapse; width: 100% }} th, td {{ text-align: left; padding: .5rem .75rem }}
tr + tr td, th {{ border-bottom: 1px solid #d8dee6 }} .running {{ color: #0a6b3d }}
.silent, .restarting {{ color: #a4271b }}
small {{ color: #5b6675 }}
</style></head><body><h1>Stillroom</h1>
<table><tr><th>service</th><th>state</th><th>now</th><th>restarts</th><th>log</th></tr>
{rows}
</table>
<p><small>{auth}This page is read again every {refresh} s.</small></p>
</body></html>
"""


_PLAIN = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
# What a store holds may run nothing here, load nothing and tell nobody its address.
_STORED = {
    **_PLAIN,
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox",
    "referrer-policy": "no-referrer",
}


class Overview:
    """The page, served from a thread.

    Args:
        services: what `infra.servers.supervisor.Service.to_json` says of each.
        stored: the page at any other path, None where there is none; the path is what its reader knows.
        auth: the file with the string that Prefect asks for; "" where somebody else's server is used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        services: Callable[[], list[dict[str, Any]]],
        auth: str,
        stored: Callable[[str], bytes | None] = lambda path: None,
    ) -> None:
        names = {origin.removeprefix("http://") for origin in own_origins(host, port)}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # A page of another site may have its name resolve to this machine.
                if self.headers.get("host") not in names:
                    self.send_error(403)
                elif self.path == "/services":
                    self._answer("application/json", json.dumps(services()))
                elif self.path == "/":
                    self._answer("text/html; charset=utf-8", page(services(), auth))
                elif (found := stored(self.path)) is not None:
                    self._answer("text/html; charset=utf-8", found, _STORED)
                else:
                    self.send_error(404)

            def _answer(self, kind: str, text: str | bytes, more: Mapping[str, str] = _PLAIN) -> None:
                body = text.encode() if isinstance(text, str) else text
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                for name, value in more.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="overview", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def page(services: list[dict[str, Any]], auth: str) -> str:
    """HTML of the page."""
    rows = []
    for one in services:
        name, link = escape(one["name"]), escape(one["link"], quote=True)
        shown = f'<a href="{link}">{name}</a>' if link else name
        state = escape(one["state"])
        log = f"<small>{escape(one['log'])}</small>"
        rows.append(
            f'<tr><td>{shown}</td><td class="{state}">{state}</td><td>{escape(one["says"])}</td>'
            f"<td>{one['restarts']}</td><td>{log}</td></tr>"
        )
    asks = f"Prefect asks for the string in {escape(auth)}. " if auth else ""
    return _PAGE.format(rows="\n".join(rows), auth=asks, refresh=REFRESH_SECONDS)
