"""ONNX Runtime for browsers, from its npm package of one pinned version: fetched once, held against its sha512, kept.

npm itself is not needed: a package is a tar file under a registry's address. Taken is the smallest build, WebAssembly
with SIMD and without WebGPU.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from infra.disk_errors import disk_errors
from infra.errors import CorruptError, PermanentError, TransientError
from infra.settings import home_folder

NAME, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package's tar file, as the registry tells it."""

API, LOADER, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
_REGISTRY = "https://registry.npmjs.org"
_SECONDS = 60.0
_MOST = 200 << 20  # bytes of the package

NOTICE = f"""\
This page holds {NAME} {VERSION} (https://github.com/microsoft/onnxruntime) under the MIT licence:

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.

What it is made of is listed at https://github.com/microsoft/onnxruntime/blob/v{VERSION}/ThirdPartyNotices.txt
"""


@dataclass(frozen=True)
class BrowserRuntime:
    """The three files that a page needs."""

    api: bytes  # defines `ort`
    loader: bytes  # an ES module that starts the WebAssembly
    wasm: bytes


def browser_runtime() -> BrowserRuntime:
    """The runtime of `VERSION`, from `STILLROOM_HOME`, or fetched and kept there.

    Raises:
        TransientError: the npm registry cannot be reached.
        CorruptError: what it gives is not the package.
        DiskError: the home cannot be written.
    """
    archive = home_folder("npm") / f"{NAME}-{VERSION}.tgz"
    data = archive.read_bytes() if archive.is_file() else b""
    if not _is_whole(data):
        data = _fetched()
        with disk_errors(archive.parent):
            part = archive.with_suffix(f".{os.getpid()}")
            part.write_bytes(data)
            os.replace(part, archive)
    return _unpacked(data)


def registry() -> str:
    """Address of the npm registry: of the environment, of an .npmrc here or in the user's home, or the public one."""
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name].rstrip("/")
    for file in (Path(".npmrc"), Path.home() / ".npmrc"):
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            key, _, value = line.partition("=")
            if key.strip() == "registry" and value.strip():
                return value.strip().strip("\"'").rstrip("/")
    return _REGISTRY


def _fetched() -> bytes:
    address = f"{registry()}/{NAME}/-/{NAME}-{VERSION}.tgz"
    if not address.startswith(("https://", "http://")):
        raise PermanentError(f"the npm registry {registry()} is no web address; set npm_config_registry")
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
            data = bytes(answer.read(_MOST))
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise TransientError(
            f"{address} cannot be fetched ({reason}); the page needs it once. Name another registry in "
            f"npm_config_registry, or put the file as {home_folder('npm')}/{NAME}-{VERSION}.tgz"
        ) from None
    if not _is_whole(data):
        raise CorruptError(f"{address} is not {NAME} {VERSION}: its sha512 is another; see npm_config_registry")
    return data


def _is_whole(data: bytes) -> bool:
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}" == INTEGRITY


def _unpacked(data: bytes) -> BrowserRuntime:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        found = {}
        for name in (API, LOADER, WASM):
            file = tar.extractfile(f"package/dist/{name}")
            assert file is not None  # the digest is that of a package which has them
            found[name] = file.read()
    return BrowserRuntime(found[API], found[LOADER], found[WASM])
