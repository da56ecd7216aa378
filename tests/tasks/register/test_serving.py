"""`mlflow models serve` on a registered student: what hospitals send, and what they should not send."""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from infra.compute.cluster import Cluster
from infra.servers.prefect_api import free_port
from infra.servers.server_process import ServerProcess, wait_for
from infra.servers.tracking import quiet, tracking_uri
from models.augmentation.rendering import decode
from tasks.registry.resolve import resolve
from tests.tasks.machine import own_machine
from tests.tasks.registered import JudgedStudents, judged


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[JudgedStudents]:
    """A machine on which `served` is registered."""
    with own_machine(tmp_path_factory.mktemp("home")):
        made = judged(tmp_path_factory.mktemp("line"), cluster)
        made.register("served")
        yield made


@pytest.fixture(scope="module")
def server(students: JudgedStudents) -> Iterator[str]:
    """The address of a server of the champion."""
    port = free_port()
    arguments = ["models", "serve", "-m", "models:/served@champion", "--env-manager", "local", "--port", str(port)]
    # uvicorn is looked for on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri(), "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"}
    env["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    process = ServerProcess("student", "mlflow", arguments, env)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process)
        yield f"http://127.0.0.1:{port}/invocations"
        process.check()
    finally:
        process.stop()


@pytest.fixture(scope="module")
def image(students: JudgedStudents, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A test image as a file."""
    return students.images(tmp_path_factory.mktemp("images"))[0].read_bytes()


@pytest.fixture(scope="module")
def expected(students: JudgedStudents, image: bytes) -> dict[str, float]:
    """Its probabilities, as the model says without a server."""
    with quiet():
        import mlflow.pyfunc

        model = mlflow.pyfunc.load_model(resolve("served").location)
        return dict(model.predict([image])["probabilities"][0])


def ask(url: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
    """Status and answer; JSON where it is some."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": kind})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as reply:
            status, text = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


def answers(url: str, body: Any) -> list[dict[str, Any]]:
    status, found = ask(url, body)
    assert status == 200, found
    return list(found["predictions"])


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_jpeg(data: bytes) -> bytes:
    return bytes(cv2.imencode(".jpg", decode(data)[..., ::-1])[1])


@cache
def bomb() -> bytes:
    """A grey PNG of 300 megapixels in half a megabyte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    width, height = 20_000, 15_000
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


FORMATS = {
    "dataframe_split": lambda cells: {"dataframe_split": {"columns": ["image"], "data": [[each] for each in cells]}},
    "dataframe_records": lambda cells: {"dataframe_records": [{"image": each} for each in cells]},
    "instances": lambda cells: {"instances": cells},
    "named instances": lambda cells: {"instances": [{"image": each} for each in cells]},
    "inputs": lambda cells: {"inputs": cells},
    "named inputs": lambda cells: {"inputs": {"image": cells}},
    "rows of inputs": lambda cells: {"inputs": [{"image": each} for each in cells]},
}


@pytest.mark.parametrize("name", FORMATS)
def test_files_in_base64_are_answered_in_every_format(
    server: str, image: bytes, expected: dict[str, float], name: str
) -> None:
    found = answers(server, FORMATS[name]([text_of(image), text_of(as_jpeg(image))]))
    assert [each["error"] for each in found] == [None, None]
    assert found[0]["probabilities"] == pytest.approx(expected, abs=1e-5)
    assert found[0]["class"] in expected


@pytest.mark.parametrize("name", FORMATS)
def test_pixels_are_answered_in_every_format(server: str, image: bytes, expected: dict[str, float], name: str) -> None:
    pixels = decode(image).tolist()
    found = answers(server, FORMATS[name]([pixels, pixels]))
    assert [each["error"] for each in found] == [None, None]
    assert found[1]["probabilities"] == pytest.approx(expected, abs=1e-5)


BAD = {
    "text": (lambda: text_of(b"Dear colleague, thank you for sending Mrs. Miller"), "the content is no image"),
    "empty": (lambda: "", "the file is empty"),
    "null": (lambda: None, "is missing"),
    "bomb": (lambda: text_of(bomb()), "20000 x 15000"),
    "path": (lambda: "miller.jpg", "is text, but no base64 of a file"),
}


@pytest.mark.parametrize("format", ["dataframe_split", "dataframe_records", "instances", "named instances", "inputs"])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_row_is_told_beside_the_good_ones(server: str, image: bytes, kind: str, format: str) -> None:
    make, text = BAD[kind]
    found = answers(server, FORMATS[format]([text_of(image), make(), text_of(image)]))
    assert [each["error"] is None for each in found] == [True, False, True]
    assert text in found[1]["error"]
    assert "iller" not in found[1]["error"]


@pytest.mark.parametrize("format", ["dataframe_split", "dataframe_records"])
@pytest.mark.parametrize(
    ("cell", "text"),
    [([[1, 2], [3, 4]], "has shape (2, 2)"), ([[1, 2], [3]], "rows of several lengths"), (7, "has shape ()")],
)
def test_a_wrong_shape_is_told(server: str, image: bytes, cell: Any, text: str, format: str) -> None:
    found = answers(server, FORMATS[format]([text_of(image), cell]))
    assert found[0]["error"] is None
    assert text in found[1]["error"]


def test_a_column_of_another_name_is_told(server: str) -> None:
    found = answers(server, {"dataframe_split": {"columns": ["x", "y"], "data": [[1, 2], [3, 4]]}})
    assert [each["error"] for each in found] == [f"image {row}: the row has no value named image" for row in (0, 1)]


@pytest.mark.parametrize("body", [b"", b"no JSON", b"{}", b'{"dataframe_split": 3}', b"\xff\xd8\xff"])
def test_a_body_that_is_no_request_is_refused(server: str, body: bytes) -> None:
    status, found = ask(server, body)
    assert status == 400
    assert "Traceback" not in json.dumps(found)


def test_a_photograph_as_the_body_is_refused(server: str, image: bytes) -> None:
    assert ask(server, as_jpeg(image), "image/jpeg")[0] == 415


def test_no_images_have_no_answers(server: str) -> None:
    assert answers(server, {"dataframe_split": {"columns": ["image"], "data": []}}) == []
    assert answers(server, {"inputs": []}) == []


def test_a_hundred_at_once_are_all_answered(server: str, image: bytes, expected: dict[str, float]) -> None:
    body = FORMATS["dataframe_records"]([text_of(image)])
    with ThreadPoolExecutor(100) as pool:
        found = list(pool.map(lambda _: answers(server, body), range(100)))
    for (one,) in found:
        assert one["error"] is None
        assert one["probabilities"] == pytest.approx(expected, abs=1e-5)


def test_a_student_of_many_files_answers_in_the_order_of_the_request(
    server: str, students: JudgedStudents, tmp_path: Path
) -> None:
    files = [path.read_bytes() for path in students.images(tmp_path)]
    together = answers(server, FORMATS["dataframe_records"]([text_of(each) for each in files * 5]))
    alone = [answers(server, FORMATS["dataframe_records"]([text_of(each)]))[0] for each in files]
    assert len(together) == 40
    for one, other in zip(together, alone * 5, strict=True):
        assert np.allclose(list(one["probabilities"].values()), list(other["probabilities"].values()), atol=1e-5)
