"""Addresses of servers: how they are shown, whether they are this machine's own, and what proxies must not carry."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import MutableMapping
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from infra.errors import UsageError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def shown(url: str) -> str:
    """An address for people: without user, password and query, which may hold one too."""
    # By hand: a password with a slash or a question mark in it ends the host for a parser, and would be shown.
    plain = re.sub(r"(?<=://)\S*@", "", url)
    return re.sub(r"\?.*", "?...", plain).partition("#")[0]


def without_userinfo(url: str) -> tuple[str, str]:
    """An address without user and password, and these as `user:password`; "" where there are none."""
    parts = urlsplit(url)
    userinfo, _, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=place)), unquote(userinfo)


def checked_http(url: str, variable: str, example: str) -> SplitResult:
    """The parts of an HTTP address.

    Args:
        variable: where the address stands.
        example: an address as it should be.

    Raises:
        UsageError: it is none; its user and password are not repeated.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UsageError(f"{variable} is no address; write it like {example}") from None
    if not valid or any(character.isspace() for character in url):
        raise UsageError(f"{variable}={shown(url)} is no address of a server; write it like {example}")
    return parts


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host: `localhost` or an address of 127.0.0.0/8 or ::1."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def spare_loopback(environment: MutableMapping[str, str] | None = None) -> None:
    """Keep requests to this machine away from proxies, in this process and those that it starts."""
    env = os.environ if environment is None else environment
    # Both spellings are read, each library prefers another; what the user set in one holds in the other.
    listed = [entry.strip() for name in ("no_proxy", "NO_PROXY") for entry in env.get(name, "").split(",")]
    hosts = ",".join(dict.fromkeys([*filter(None, listed), *LOOPBACK]))
    env["no_proxy"] = env["NO_PROXY"] = hosts


def origin_of(host: str, port: int) -> str:
    """The origin of pages that a server serves on a host and port."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def own_origins(host: str, port: int) -> list[str]:
    """Every origin by which a browser may name a server; on loopback a host has several names."""
    hosts = dict.fromkeys([host, *(LOOPBACK[:2] if is_loopback(host) else ())])
    return [origin_of(each, port) for each in hosts]
