"""DICOM: the picture as a viewer shows it first.

Grey values pass the modality transformation (rescale or table), then the first window or table of values of interest,
then the inversion of MONOCHROME1 (DICOM PS3.3 C.11.1, C.11.2). Where the file names no window, the least and the
greatest value become black and white. Colours are RGB, from YBR or a palette where they are stored so.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tasks.preprocessing.unreadable import UnreadableError

EXTRA = "the content is DICOM; pip install 'stillroom[dicom]' reads it"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_MARK = slice(128, 132)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_TOP = 255.0


def is_dicom(data: bytes) -> bool:
    """Whether bytes begin as a DICOM file does."""
    return data[_MARK] == b"DICM"


def can_read_dicom() -> bool:
    """Whether pydicom is installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        return False
    return True


def read_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels, before anything is decoded.

    Raises:
        UnreadableError: damaged, without pixels, of several frames, of a transfer syntax that would be inflated whole,
            or pydicom is not installed.
    """
    with open_dicom(data) as dataset:
        if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise UnreadableError("the DICOM has no pixels (a report, a plan or a directory); take the file out")
        frames = int(dataset.get("NumberOfFrames") or 1)
        if frames > 1:
            raise UnreadableError(f"the DICOM has {frames} frames; export the one that counts")
        return int(dataset.Columns), int(dataset.Rows)


def is_burned_in(data: bytes) -> bool:
    """Whether its header says that text, perhaps a name, is burned into the pixels."""
    with open_dicom(data, pixels=False) as dataset:
        return str(dataset.get("BurnedInAnnotation") or "").upper() == "YES"


def decode_dicom(data: bytes) -> np.ndarray:
    """BGR uint8 [H, W, 3].

    Raises:
        UnreadableError: it cannot be decoded, or its samples have more than 16 bits.
    """
    from pydicom.pixels import apply_color_lut, pixel_array

    with open_dicom(data) as dataset:
        kind = str(dataset.PhotometricInterpretation)
        stored = pixel_array(dataset)
        if kind in _GREY:
            grey = _grey(stored, dataset)
            if kind == "MONOCHROME1":
                grey = _TOP - grey
            shown = np.round(np.clip(grey, 0, _TOP)).astype(np.uint8)
            return np.repeat(shown[..., None], 3, axis=2)
        colours = apply_color_lut(stored, dataset) if kind == "PALETTE COLOR" else stored
        if colours.ndim != 3 or colours.dtype.itemsize > 2:
            raise UnreadableError("the DICOM cannot be decoded: its colours have more than 16 bits")
        if colours.dtype.itemsize == 2:
            bits = 16 if kind == "PALETTE COLOR" else int(dataset.BitsStored)
            colours = (colours >> (bits - 8)).astype(np.uint8)
        return np.ascontiguousarray(colours[..., 2::-1])


def _grey(stored: np.ndarray, dataset: Any) -> np.ndarray:
    """float64 [H, W] of 0 to 255, before an inversion."""
    from pydicom.pixels import apply_modality_lut, apply_voi

    values = np.asarray(apply_modality_lut(stored, dataset), np.float64)
    if dataset.get("VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        table = apply_voi(values.astype(np.int64), dataset)
        return np.asarray(table, np.float64) / (2.0**bits - 1) * _TOP
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        centre, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
        return _windowed(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR").upper())
    seen = values
    padding = dataset.get("PixelPaddingValue")
    if padding is not None and (stored != padding).any():
        seen = values[stored != padding]
    low, high = float(seen.min()), float(seen.max())
    return (values - low) / max(high - low, 1e-9) * _TOP


def _windowed(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID" and width > 0:
        return _TOP / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT" and width > 0:
        return (values - centre) / width * _TOP + _TOP / 2
    if width < 1:
        raise UnreadableError("the DICOM is damaged: its window has a width below 1")
    if width == 1:
        return np.where(values > centre - 0.5, _TOP, 0.0)
    return ((values - (centre - 0.5)) / (width - 1) + 0.5) * _TOP


def _first(value: Any) -> float:
    return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)


@contextmanager
def open_dicom(data: bytes, *, pixels: bool = True) -> Iterator[Any]:
    """The `pydicom.dataset.Dataset`, or what stands before its pixels.

    Whatever goes wrong inside becomes an UnreadableError that quotes nothing of the file.
    """
    try:
        import pydicom
    except ImportError:
        raise UnreadableError(EXTRA) from None
    _be_quiet()
    with warnings.catch_warnings():
        # Odd elements are no fault of the pixels, and warnings quote them.
        warnings.simplefilter("ignore")
        try:
            if _DEFLATED.encode() in data[:1024]:
                raise UnreadableError(
                    "the DICOM is of a transfer syntax that is not read (deflated); export it otherwise"
                )
            yield pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels)
        except (UnreadableError, MemoryError):
            raise
        except Exception as error:
            # Its parser raises whatever a damaged file makes it trip over.
            if "decode" in str(error).lower() and "plugin" in str(error).lower():
                raise UnreadableError("the DICOM is of a transfer syntax that is not read, or damaged") from None
            raise UnreadableError(f"the DICOM is cut off or damaged ({type(error).__name__})") from None


def _be_quiet() -> None:
    """Neither library may write of a file's content to the terminal."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        import gdcm
    except ImportError:
        return
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
