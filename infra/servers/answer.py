"""One question to a server of somebody else: it answers within seconds, or an error says why not."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from infra.errors import TransientError, UsageError
from infra.servers.address import is_loopback, shown

SECONDS = 5.0
"""How long a server may be silent."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def answer(url: str, name: str, *, auth: str = "", body: bytes | None = None, seconds: float = SECONDS) -> bytes:
    """What a server answers; redirects are not followed, and a proxy is asked only for other machines.

    Args:
        name: of the server, for people.
        auth: the header `Authorization`; "": none.
        body: JSON to post; None asks with GET.

    Raises:
        UsageError: it refuses the question, or is another server; asking again would not help.
        TransientError: it cannot be reached, or fails.
    """
    proxy = _proxy(url)
    handlers = [_NoRedirect(), urllib.request.ProxyHandler({urlsplit(url).scheme: proxy} if proxy else {})]
    headers = {"content-type": "application/json", **({"authorization": auth} if auth else {})}
    request = urllib.request.Request(url, body, headers)
    place = f"{name} at {shown(url)}"
    via = f" through the proxy {shown(proxy)} (set no_proxy for hosts that need none)" if proxy else ""
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds) as response:
            found: bytes = response.read()
            return found
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error, place, via) from None
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"{place} cannot be reached{via}: {_cause(error, seconds)}") from error


def basic(userinfo: str) -> str:
    """The header `Authorization` for `user:password`."""
    return f"Basic {base64.b64encode(userinfo.encode()).decode()}"


def _refused(error: urllib.error.HTTPError, place: str, via: str) -> UsageError | TransientError:
    code = error.code
    if code in (401, 403):
        what = "wants to know who asks, and was not told or knows another one" if code == 401 else "forbids it"
        return UsageError(f"{place} {what} (HTTP {code}){via}")
    if 300 <= code < 400:
        where = shown(error.headers.get("location") or "somewhere else")
        return UsageError(f"{place} redirects to {where} (HTTP {code}){via}; set the address that answers itself")
    if code >= 500 or code in (408, 429):
        return TransientError(f"{place} fails (HTTP {code}){via}")
    return UsageError(
        f"{place} does not know what it is asked (HTTP {code}){via}; is it the address of another server?"
    )


def _cause(error: OSError | http.client.HTTPException, seconds: float) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer in {seconds:g} s"
    if isinstance(reason, ConnectionRefusedError):
        return "nobody listens there (connection refused)"
    if isinstance(reason, socket.gaierror):
        return f"the host is not known ({reason.strerror})"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message})"
    if isinstance(reason, http.client.HTTPException):
        return f"what answers there does not speak HTTP ({type(reason).__name__})"
    return str(reason)


def _proxy(url: str) -> str | None:
    """The proxy that a request to the address goes through."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")
