"""From a pulled student to one HTML file that runs it in a browser, without a server and without a connection."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from infra.disk_errors import disk_errors
from infra.errors import PermanentError, UsageError
from tasks.page.runtime import NOTICE, BrowserRuntime, browser_runtime

PAGE = "index.html"
_SCRIPTS = ("reading.js", "scaling.js", "resizing.js", "cropping.js", "deciding.js", "app.js")
_FORMAT = 1  # of preprocessing.json


@dataclass(frozen=True)
class StudentPage:
    """What was written.

    Attributes:
        path: of the file.
        bytes: its size.
    """

    path: Path
    bytes: int


def page_of(folder: Path, target: Path, *, title: str = "", runtime: BrowserRuntime | None = None) -> StudentPage:
    """Write `target`/index.html for the student of a pulled folder.

    Args:
        folder: with artifacts/network.onnx, about.json and preprocessing.json; model_card.md is shown where it is.
        target: a folder, made where there is none.
        title: of the page; default: the network's name.
        runtime: ONNX Runtime for browsers; default: the pinned one, fetched where it is not kept yet.

    Raises:
        UsageError: the folder holds no such student, or `target` is a file.
        PermanentError: its preprocessing is none that the page can do.
        TransientError, CorruptError: see `browser_runtime`.
        DiskError: `target` cannot be written.
    """
    about, preprocessing = (_document(folder, f"{name}.json") for name in ("about", "preprocessing"))
    if preprocessing.get("format") != _FORMAT:
        raise PermanentError(
            f"{folder}: preprocessing.json has format {preprocessing.get('format')!r}; this release reads {_FORMAT}"
        )
    card = folder / "artifacts" / "model_card.md"
    data = html_of(
        network=_artifact(folder, "network.onnx").read_bytes(),
        about=about,
        preprocessing=preprocessing,
        card=card.read_text(encoding="utf-8") if card.is_file() else "",
        title=title or str(about["model"]),
        runtime=runtime or browser_runtime(),
    )
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; the page needs a folder")
    with disk_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        part = target / f".{PAGE}.{os.getpid()}"
        part.write_bytes(data)
        os.replace(part, target / PAGE)
    return StudentPage(target / PAGE, len(data))


def html_of(
    *,
    network: bytes,
    about: dict[str, Any],
    preprocessing: dict[str, Any],
    card: str,
    title: str,
    runtime: BrowserRuntime,
) -> bytes:
    """UTF-8 HTML; the same bytes for the same student.

    Its policy lets the browser run the scripts that it names by their digests, and connect to nothing.
    """
    own = files(__package__)
    parts = [own.joinpath(name).read_text(encoding="utf-8").replace('"use strict";\n', "") for name in _SCRIPTS]
    code = '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"
    api = "\n".join(line for line in runtime.api.decode().splitlines() if not line.startswith("//# sourceMappingURL"))
    css = own.joinpath("page.css").read_text(encoding="utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            # ONNX Runtime imports its loader as a module from an address, here one of this page's own.
            f"script-src {_digest(api)} {_digest(code)} 'wasm-unsafe-eval' blob:",
            # What scripts set on single elements is not meant by it.
            f"style-src {_digest(css)}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    text = (
        _environment()
        .get_template(PAGE)
        .render(
            title=title,
            policy=policy,
            about=about,
            card=card,
            notice=NOTICE,
            css=_unended(css, "style"),
            code=_unended(code, "script"),
            runtime=_unended(api, "script"),
            about_json=_json(about),
            preprocessing_json=_json(preprocessing),
            network=_packed(network),
            loader=_packed(runtime.loader),
            wasm=_packed(runtime.wasm),
        )
    )
    return text.encode()


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _unended(text: str, tag: str) -> Markup:
    if f"</{tag}" in text.lower():
        raise PermanentError(f"a {tag} of the page would end too early: it holds </{tag}")
    return Markup(text)


def _json(document: dict[str, Any]) -> Markup:
    # Nothing in it may end the element that holds it.
    return Markup(json.dumps(document, ensure_ascii=False).replace("<", "\\u003c"))


@lru_cache(maxsize=8)
def _packed(data: bytes) -> Markup:
    return Markup(base64.b64encode(gzip.compress(data, mtime=0)).decode())


def _document(folder: Path, name: str) -> dict[str, Any]:
    file = _artifact(folder, name)
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise PermanentError(f"{file} cannot be read ({error}); pull the student again") from None


def _artifact(folder: Path, name: str) -> Path:
    file = folder / "artifacts" / name
    if not file.is_file():
        raise UsageError(
            f"{folder} has no artifacts/{name}; make the folder with `stillroom pull NAME@ALIAS --to {folder}`, of a "
            "version that was registered with its ONNX file"
        )
    return file


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("tasks.page", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
