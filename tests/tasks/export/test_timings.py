"""Which latencies are measured, and what they decide about int8; no figure of this machine is judged."""

from __future__ import annotations

import pytest

from infra.errors import CancelledError
from models.engines.engine import Network
from models.export.latency import Latency, cores, onnx_runtimes
from models.export.onnx_graph import export_onnx
from models.networks.build import build
from models.networks.weight_files import export_pt2
from tasks.export.timings import fastest, int8_offer, timings

SIDE = 32


@pytest.fixture(scope="module")
def formats() -> dict[str, bytes]:
    module = build("micro_xs", num_classes=3).module
    graph = export_onnx(Network(SIDE, (0.5,) * 3, (0.5,) * 3, 3, module=module))
    return {"pt2": export_pt2(module, SIDE), "onnx": graph}


def test_every_format_is_timed_at_each_batch_size_and_number_of_threads(formats: dict[str, bytes]) -> None:
    found = timings(formats, SIDE, (0.5,) * 3, (0.5,) * 3, stop=lambda: False, seconds=0)
    places = {(batch, threads) for batch in (1, 32) for threads in {1, cores()}}
    for name, runtimes in {"pt2": ["torch"], "onnx": onnx_runtimes()}.items():
        rows = {(row.batch, row.threads, row.runtime) for row in found[name]}
        assert rows == {(*place, runtime) for place in places for runtime in runtimes}
        assert all(0 < row.median_ms <= row.p95_ms for row in found[name])


def test_a_request_to_stop_ends_it(formats: dict[str, bytes]) -> None:
    with pytest.raises(CancelledError):
        timings(formats, SIDE, (0.5,) * 3, (0.5,) * 3, stop=lambda: True, seconds=0)


def rows(*figures: tuple[str, float]) -> list[Latency]:
    """One image on one thread in the given times; on two threads and in batches in no time."""
    return [
        Latency(batch, threads, runtime, time if batch == threads == 1 else 0.001, 9.0)
        for runtime, time in figures
        for batch, threads in ((1, 1), (1, 2), (32, 1))
    ]


FLOAT32 = rows(("onnxruntime", 1.2), ("openvino", 1.0))


def test_the_fastest_is_that_of_one_image_on_one_thread() -> None:
    assert (fastest(FLOAT32).runtime, fastest(FLOAT32).median_ms) == ("openvino", 1.0)


def test_int8_that_wins_in_one_runtime_is_offered() -> None:
    offer = int8_offer("", FLOAT32, rows(("onnxruntime", 2.5), ("openvino", 0.7)), plain_bytes=100, own_bytes=90)
    assert offer.offered
    assert offer.why.startswith("faster: 0.7 ms in openvino, float32 1 ms in openvino; not smaller")


def test_int8_that_is_slower_and_smaller_is_offered_and_says_so() -> None:
    offer = int8_offer("", FLOAT32, rows(("onnxruntime", 2.5)), plain_bytes=200_000, own_bytes=80_000)
    assert offer.offered
    assert offer.why.startswith("not faster: 2.5 ms in onnxruntime, float32 1 ms in openvino; smaller: 80 kB, float32")


def test_int8_that_is_neither_is_not_offered() -> None:
    assert not int8_offer("", FLOAT32, rows(("openvino", 0.99)), plain_bytes=100, own_bytes=80).offered


def test_int8_beyond_its_bounds_is_not_offered_however_fast() -> None:
    offer = int8_offer("macro_f1 may lose 0.1", FLOAT32, rows(("openvino", 0.1)), plain_bytes=100, own_bytes=10)
    assert not offer.offered
    assert offer.why.startswith("macro_f1 may lose 0.1; faster")


def test_a_runtime_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.export.latency.find_spec", lambda name: None if name == "openvino" else name)
    offer = int8_offer("", FLOAT32, rows(("onnxruntime", 2.5)), plain_bytes=100, own_bytes=80)
    assert offer.why.endswith("OpenVINO is not installed and was not measured")
