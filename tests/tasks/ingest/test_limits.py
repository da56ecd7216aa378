"""What one image may cost: bombs are refused by what they announce, slow calls by the clock."""

from __future__ import annotations

import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from tasks.ingest.limits import LimitedCalls
from tasks.ingest.pixels import EncodedImage, ImageRecipe, encode_image
from tasks.preprocessing.effort import MOST_SCANS
from tasks.preprocessing.unreadable import UnreadableError
from tests.tasks.ingest.pictures import noisy

RECIPE = ImageRecipe(size=32, encode="jpeg", quality=90, crop="none", max_pixels=100_000_000)


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands there `count` times."""
    sink = io.BytesIO()
    Image.fromarray(noisy(64, 64)).save(sink, "JPEG", progressive=True)
    data = sink.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def blank_tiff(side: int) -> bytes:
    """A bilevel TIFF of one colour."""
    sink = io.BytesIO()
    Image.new("1", (side, side)).save(sink, "TIFF", compression="group4")
    return sink.getvalue()


def spin(seconds: float) -> str:
    """Use processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return "done"


def test_a_jpeg_with_thousands_of_scans_is_refused() -> None:
    with pytest.raises(UnreadableError, match=rf"the JPEG has 5\d\d\d scans, and no more than {MOST_SCANS}"):
        encode_image(scans(5000), RECIPE)


def test_a_progressive_jpeg_is_read() -> None:
    assert isinstance(encode_image(scans(1), RECIPE), EncodedImage)


def test_a_small_file_of_a_hundred_megapixels_is_refused_unread() -> None:
    bomb = blank_tiff(10_000)
    assert len(bomb) < 20_000
    with pytest.raises(UnreadableError, match=r"the TIFF announces 10000 x 10000 pixels in \d+ bytes"):
        encode_image(bomb, RECIPE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_blank_picture_is_no_bomb(kind: str) -> None:
    sink = io.BytesIO()
    Image.fromarray(np.zeros((2500, 2500), np.uint8)).save(sink, kind)
    assert encode_image(sink.getvalue(), RECIPE).width == 2500


def test_a_call_that_takes_too_long_is_given_up_and_the_next_is_answered() -> None:
    limited = LimitedCalls(0.05)
    with pytest.raises(UnreadableError, match=r"takes more than 0\.05 s to decode \(run\.image_seconds\)"):
        limited(spin, 1.0)
    assert limited(spin, 0.0) == "done"
    limited.close()


def test_time_that_a_call_only_waits_does_not_count() -> None:
    limited = LimitedCalls(0.02)
    assert limited(lambda: threading.Event().wait(0.2)) is False
    limited.close()


def test_an_error_of_a_call_is_its_own() -> None:
    limited = LimitedCalls(5.0)
    with pytest.raises(ZeroDivisionError):
        limited(lambda: 1 // 0)
    limited.close()
