"""DICOM files made by code."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

PLANTED = {
    "PatientName": "Quimby^Wilhelmina",
    "PatientID": "MRN-778812",
    "PatientBirthDate": "19500312",
    "InstitutionName": "Northgate Infirmary",
    "ReferringPhysicianName": "Zwicky^Otto",
    "AccessionNumber": "ACC99331",
}
"""Elements that may not leave a header."""


def dataset(pixels: np.ndarray, kind: str = "MONOCHROME2", bits: int | None = None, **elements: Any) -> Dataset:
    """A data set of grey [H, W] or colour [H, W, 3] samples, unsigned unless their type is signed."""
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = SecondaryCaptureImageStorage
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = generate_uid(entropy_srcs=["stillroom"])
    found.Rows, found.Columns = pixels.shape[:2]
    found.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.ndim == 3:
        found.PlanarConfiguration = 0
    found.PhotometricInterpretation = kind
    found.BitsAllocated = 8 * pixels.dtype.itemsize
    found.BitsStored = bits or found.BitsAllocated
    found.HighBit = found.BitsStored - 1
    found.PixelRepresentation = int(pixels.dtype.kind == "i")
    found.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(found, name, value)
    return found


def written(found: Dataset) -> bytes:
    """The bytes of its file."""
    sink = io.BytesIO()
    found.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def dicom(pixels: np.ndarray, kind: str = "MONOCHROME2", bits: int | None = None, **elements: Any) -> bytes:
    """`written` of a `dataset`."""
    return written(dataset(pixels, kind, bits, **elements))
