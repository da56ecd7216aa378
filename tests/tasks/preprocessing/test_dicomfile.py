"""Pixels and facts of DICOM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.data.data_manager import DATA_ROOT
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from tasks.ingest.dicom_attributes import attributes_of
from tasks.ingest.pixels import encode_image
from tasks.preprocessing.dicomfile import decode_dicom, is_burned_in, is_dicom, read_size
from tasks.preprocessing.unreadable import UnreadableError
from tests.tasks.ingest.dicoms import PLANTED, dataset, dicom, written
from tests.tasks.ingest.pictures import KEEP, PLAIN

SHIPPED = Path(DATA_ROOT, "test_files")
RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


def grey(data: bytes) -> np.ndarray:
    """[H, W] of a picture whose channels are equal."""
    pixels = decode_dicom(data)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def test_a_window_becomes_black_to_white() -> None:
    shown = grey(dicom(RAMP, bits=12, WindowCenter=1024, WindowWidth=512))
    assert (shown[RAMP <= 768] == 0).all()
    assert (shown[RAMP > 1280] == 255).all()
    assert shown[RAMP == 1024][0] == pytest.approx(128, abs=1)


def test_the_first_of_several_windows_counts() -> None:
    several = dicom(RAMP, bits=12, WindowCenter=[1024, 10], WindowWidth=[512, 5])
    assert (grey(several) == grey(dicom(RAMP, bits=12, WindowCenter=1024, WindowWidth=512))).all()


@pytest.mark.parametrize(("function", "middle"), [("LINEAR_EXACT", 127.5), ("SIGMOID", 127.5)])
def test_other_window_functions_are_read(function: str, middle: float) -> None:
    shown = grey(dicom(RAMP, bits=12, WindowCenter=1024, WindowWidth=512, VOILUTFunction=function))
    assert shown[RAMP == 1024][0] == pytest.approx(middle, abs=1)
    assert shown.ravel().tolist() == sorted(shown.ravel().tolist())


def test_rescaling_comes_before_the_window() -> None:
    scaled = dicom(RAMP, bits=12, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=1024, WindowWidth=1024)
    plain = grey(dicom(RAMP, bits=12, WindowCenter=1024, WindowWidth=512))
    assert np.abs(grey(scaled).astype(int) - plain).max() <= 1


def test_a_table_of_values_comes_before_a_window() -> None:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.LUTData = np.arange(255, -1, -1).astype("<u2").tobytes()
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = dataset(pixels, WindowCenter=1, WindowWidth=2)
    found.VOILUTSequence = [table]
    found["VOILUTSequence"].value[0]["LUTData"].VR = "OW"
    found["VOILUTSequence"].value[0]["LUTDescriptor"].VR = "US"
    assert (grey(written(found)) == 255 - pixels).all()


def test_white_is_zero_of_any_depth() -> None:
    plain, inverted = (
        grey(dicom(RAMP, kind, bits=12, WindowCenter=2048, WindowWidth=4096)) for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert np.abs(plain.astype(int) + inverted - 255).max() <= 1


def test_without_a_window_least_and_greatest_are_black_and_white_and_padding_is_neither() -> None:
    pixels = RAMP.astype(np.int16) + 100
    pixels[0, 0] = -2000
    shown = grey(dicom(pixels, PixelPaddingValue=-2000))
    assert (shown[0, 0], shown[0, 1], shown[-1, -1]) == (0, 0, 255)


def test_colours_are_blue_green_red_for_opencv() -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[..., 0] = 200
    assert decode_dicom(dicom(pixels, "RGB"))[0, 0].tolist() == [0, 0, 200]


def test_colours_of_16_bits_keep_their_highest_8() -> None:
    pixels = np.full((4, 4, 3), 0xABCD, np.uint16)
    assert (decode_dicom(dicom(pixels, "RGB")) == 0xAB).all()


def test_ybr_becomes_colours() -> None:
    grey_pixels = np.full((4, 4, 3), 128, np.uint8)
    grey_pixels[..., 0] = 77
    assert np.abs(decode_dicom(dicom(grey_pixels, "YBR_FULL")).astype(int) - 77).max() <= 1


def test_a_palette_becomes_its_colours() -> None:
    found = dataset(np.array([[0, 1], [1, 0]], np.uint8), "PALETTE COLOR")
    for name, values in (("Red", [0, 65535]), ("Green", [0, 0]), ("Blue", [65535, 0])):
        setattr(found, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(found, f"{name}PaletteColorLookupTableData", np.array(values, "<u2").tobytes())
    assert decode_dicom(written(found)).tolist() == [[[255, 0, 0], [0, 0, 255]], [[0, 0, 255], [255, 0, 0]]]


def test_run_lengths_are_unpacked() -> None:
    found = dataset(RAMP, bits=12, WindowCenter=1024, WindowWidth=512)
    plain = grey(written(found))
    found.compress(RLELossless)
    assert (grey(written(found)) == plain).all()


def test_every_lossless_copy_of_one_picture_is_the_same() -> None:
    names = ["", "_RLE", "_bigendian", "_expb", "_implicit", "_jp2klossless", "_jpeg_ls_lossless", "_padded"]
    shown = [grey((SHIPPED / f"MR_small{name}.dcm").read_bytes()) for name in names]
    assert all((own == shown[0]).all() for own in shown)


@pytest.mark.parametrize("name", ["SC_rgb_rle", "SC_rgb_jpeg_gdcm", "SC_rgb_rle_16bit", "SC_rgb_jls_lossy_sample"])
def test_colour_bars_are_red_green_blue_in_any_syntax(name: str) -> None:
    shown = decode_dicom((SHIPPED / f"{name}.dcm").read_bytes())
    assert [shown[row, 50].tolist() for row in (5, 25, 45)] == [[0, 0, 255], [0, 255, 0], [255, 0, 0]]


def test_of_the_files_that_pydicom_ships_each_is_right_or_refused_by_name() -> None:
    read, refused = 0, []
    for path in sorted(SHIPPED.glob("*.dcm")):
        data = path.read_bytes()
        if not is_dicom(data):
            continue
        try:
            width, height = read_size(data)
            assert decode_dicom(data).shape == (height, width, 3), path.name
            read += 1
        except UnreadableError as error:
            refused.append(str(error))
    assert read >= 48
    assert all(text.startswith("the DICOM ") for text in refused)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (dicom(RAMP)[:-40], r"the DICOM is cut off or damaged"),
        (dicom(RAMP)[:400], r"the DICOM (is cut off or damaged|has no pixels)"),
        (dicom(RAMP, WindowCenter=5, WindowWidth=0), r"its window has a width below 1"),
        (dicom(np.zeros((4, 4, 3), np.uint32), "RGB"), r"more than 16 bits"),
        ((SHIPPED / "image_dfl.dcm").read_bytes(), r"transfer syntax that is not read \(deflated\)"),
        ((SHIPPED / "JPGExtended.dcm").read_bytes(), r"transfer syntax that is not read"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, match: str) -> None:
    with pytest.raises(UnreadableError, match=match):
        decode_dicom(data)


def test_frames_and_files_without_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(UnreadableError, match="the DICOM has 3 frames; export the one that counts"):
        read_size(dicom(np.zeros((12, 4), np.uint8), NumberOfFrames=3))
    found = dataset(RAMP)
    del found.PixelData
    with pytest.raises(UnreadableError, match="the DICOM has no pixels"):
        read_size(written(found))


def test_more_pixels_than_allowed_are_never_decoded() -> None:
    found = dataset(RAMP)
    found.Rows, found.Columns = 60_000, 60_000
    with pytest.raises(UnreadableError, match="too large: 60000 x 60000 pixels"):
        encode_image(written(found), PLAIN)


def test_of_the_header_few_facts_leave() -> None:
    data = dicom(
        RAMP,
        **PLANTED,
        Modality="DX",
        ViewPosition="PA",
        PatientAge="058Y",
        PatientSex="F",
        Manufacturer="Agfa",
        StudyDate="20190703",
        Laterality="L",
    )
    assert attributes_of(data) == {
        "projection": "PA",
        "age": "58",
        "sex": "female",
        "camera": "Agfa",
        "date": "2019-07-03",
    }


def test_the_side_of_an_eye_is_known_of_eyes_alone() -> None:
    assert attributes_of(dicom(RAMP, Modality="OP", ImageLaterality="R")) == {"eye": "right"}


def test_burned_in_text_is_refused_unless_it_is_masked() -> None:
    data = dicom(RAMP, BurnedInAnnotation="YES")
    assert is_burned_in(data)
    with pytest.raises(UnreadableError, match=r"text is burned into its pixels; set ingest\.mask"):
        encode_image(data, PLAIN)
    masked = type(PLAIN)(**{**vars(PLAIN), "mask": [[[0, 0], [1, 0], [0, 1]]]})
    assert encode_image(data, masked).width == 16


def test_a_header_is_never_kept() -> None:
    with pytest.raises(UnreadableError, match="the DICOM cannot be kept as it is"):
        encode_image(dicom(RAMP), KEEP)


def test_an_independent_reading_agrees() -> None:
    found = dataset(RAMP, bits=12)
    stored = pixel_array(found).astype(float)
    expected = np.round((stored - stored.min()) / (stored.max() - stored.min()) * 255)
    assert (grey(written(found)) == expected).all()
