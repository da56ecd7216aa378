"""Whether an ONNX file takes tensors from other files, which its digest does not cover and whose paths lead anywhere.

Engines open such files by themselves, wherever in the graph a tensor names one. This walks the file's protobuf
messages, so it needs no package of ONNX's.
Source: onnx.proto3 of ONNX 1.18 for the numbers of the fields.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

# Fields of each message that may hold tensors somewhere below, with the message that they hold.
_BELOW: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


def has_external_data(path: Path) -> bool:
    """Whether any tensor of the file lies in another file.

    Raises:
        ValueError: it is no protobuf message.
    """
    if path.stat().st_size == 0:
        raise ValueError("it is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pending = [("model", 0, len(data))]
        while pending:
            kind, start, end = pending.pop()
            for number, wire, low, high in _fields(data, start, end):
                if kind == "tensor":
                    if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and wire == _VARINT and low != 0):
                        return True
                elif wire == _BYTES and number in _BELOW[kind]:
                    pending.append((_BELOW[kind][number], low, high))
    return False


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and first and last place of each field's bytes; of a varint its value and 0."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield number, wire, value, 0
            continue
        if wire == _BYTES:
            size, at = _varint(data, at, end)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"it has no fields of a protobuf message at byte {at}")
        if size > end - at:
            raise ValueError(f"it is cut at byte {end}")
        yield number, wire, at, at + size
        at += size


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """A number, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError(f"it has no number of a protobuf message at byte {at}")
