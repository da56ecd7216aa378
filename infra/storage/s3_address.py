"""S3 addresses, `s3://bucket/prefix?endpoint=http://host:port&region=...&style=virtual`, and their boto3 client."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from infra.errors import UsageError
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
    if not url.startswith(SCHEME):
        raise UsageError(f"{url!r}: an S3 address starts with {SCHEME}")
    path, _, query = url.removeprefix(SCHEME).partition("?")
    bucket, _, prefix = path.partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise UsageError(f"{url!r}: {bucket!r} is no name of a bucket; write s3://bucket/prefix")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise UsageError(f"{url!r}: the prefix has an empty, '.' or '..' part")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := set(options) - {"endpoint", "region", "style"}:
        raise UsageError(f"{url!r}: unknown {sorted(unknown)[0]!r}; known are endpoint, region and style")
    endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = (endpoint or "").rstrip("/")
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise UsageError(f"{url!r}: endpoint {endpoint!r} has to start with http:// or https://")
    style = options.get("style", "")
    if style and style not in _STYLES:
        raise UsageError(f"{url!r}: style {style!r} is none of {', '.join(_STYLES)}")
    return Address(bucket, endpoint, options.get("region", ""), style), prefix


def client(address: Address) -> Any:
    """The boto3 client for an address: one a process, endpoint and timeout, safe to share between threads."""
    known = settings()
    style = address.style or ("path" if address.endpoint else "auto")
    # A forked child must not share sockets with its parent, so the pid is part of the key.
    return _client(address.endpoint, address.region, style, known.s3_timeout, known.s3_connect_timeout, os.getpid())


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
    return Session().client("s3", endpoint_url=endpoint or None, region_name=region or None, config=config)
