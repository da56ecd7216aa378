"""S3 addresses, `s3://bucket/prefix?endpoint=http://host:port&region=...&style=virtual`, and their boto3 client."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from infra.errors import UsageError
from infra.secrets import has_secret
from infra.settings import settings

SCHEME = "s3://"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_STYLES = ("auto", "path", "virtual")


@dataclass(frozen=True)
class Address:
    """A bucket and its endpoint; credentials come from the AWS_* variables or profiles of boto3."""

    bucket: str
    endpoint: str = ""  # empty: Amazon's, or what the profile says
    region: str = ""
    style: str = ""  # path, virtual or auto; empty: path at an endpoint of its own, else auto

    def url(self, prefix: str) -> str:
        """The text that `parse` turns into this address and that prefix."""
        pairs = [("endpoint", self.endpoint), ("region", self.region), ("style", self.style)]
        query = urlencode([(name, value) for name, value in pairs if value], safe=":/")
        path = f"{self.bucket}/{prefix}" if prefix else self.bucket
        return f"{SCHEME}{path}?{query}" if query else f"{SCHEME}{path}"


def parse(url: str) -> tuple[Address, str]:
    """The address and the prefix, without slashes at its ends; all else of the prefix is taken literally.

    An endpoint that only AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL names becomes part of the address, so that
    its `url` means the same on another machine.

    Raises:
        UsageError: scheme, bucket, endpoint or query are wrong.
    """
    path, _, query = url.removeprefix(SCHEME).partition("?")
    bucket, _, prefix = path.partition("/")
    if has_secret(url) or "@" in bucket:
        raise UsageError(
            "the address of a bucket holds a user name, password or key; take it out, and set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if not url.startswith(SCHEME):
        raise UsageError(f"{url!r}: an S3 address starts with {SCHEME}")
    # What follows may be a key that was put into the query; messages show the address without it.
    shown = f"{SCHEME}{path}"
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{shown!r}: {bucket!r} is no name of a bucket; write s3://bucket/prefix")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise UsageError(f"{shown!r}: the prefix has an empty, '.' or '..' part")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := set(options) - {"endpoint", "region", "style"}:
        raise UsageError(f"{shown!r}: unknown {sorted(unknown)[0]!r}; known are endpoint, region and style")
    endpoint, region = _endpoint(options.get("endpoint", ""), shown), options.get("region", "")
    if region and re.fullmatch(r"[a-z0-9-]{1,40}", region, re.IGNORECASE) is None:
        raise UsageError(f"{shown!r}: region is no name of a region, such as eu-west-1")
    style = options.get("style", "")
    if style and style not in _STYLES:
        raise UsageError(f"{shown!r}: style is none of {', '.join(_STYLES)}")
    return Address(bucket, endpoint, region, style), prefix


def _endpoint(given: str, shown: str) -> str:
    """The endpoint of an address, else that of the environment, without a slash at its end."""
    name, endpoint = "endpoint", given
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if not endpoint:
            name, endpoint = variable, os.environ.get(variable, "")
    endpoint = endpoint.rstrip("/")
    if has_secret(endpoint) or "@" in endpoint or "?" in endpoint or "#" in endpoint:
        raise UsageError(
            f"{shown!r}: {name} holds more than http(s)://HOST:PORT, such as a user name or key; take it out, and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"{shown!r}: {name} has to start with http:// or https://")
    return endpoint


def client(address: Address) -> Any:
    """The boto3 client for an address: one a process, endpoint and timeout, safe to share between threads."""
    known = settings()
    style = address.style or ("path" if address.endpoint else "auto")
    # A forked child must not share sockets with its parent, so the pid is part of the key.
    return _client(address.endpoint, address.region, style, known.s3_timeout, known.s3_connect_timeout, os.getpid())


_answered: set[str] = set()


def has_answered(address: Address) -> bool:
    """Whether the endpoint of an address answered this process before: it is right, even if nobody is there now."""
    return address.endpoint in _answered


@lru_cache(maxsize=8)
def _client(endpoint: str, region: str, style: str, timeout: float, connect_timeout: float, pid: int) -> Any:
    from boto3.session import Session
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=timeout,
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Newer default checksums travel as trailers, which many servers refuse; Content-MD5 is understood by all.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": style},
        max_pool_connections=32,
        tcp_keepalive=True,
    )
    made = Session().client("s3", endpoint_url=endpoint or None, region_name=region or None, config=config)

    def note(response_dict: dict[str, Any] | None = None, **_: Any) -> None:
        if response_dict is not None and response_dict["status_code"] < 500:
            _answered.add(endpoint)

    made.meta.events.register("response-received.s3", note)
    return made
