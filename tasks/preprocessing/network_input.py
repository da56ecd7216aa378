"""From a photograph to a network's input: as a JSON document that people read, and as the code that carries it out.

What training saw went through ingestion first, the JPEG of its shard included. A network notices compression, so a
JPEG is made and read again here too: with the same code and libraries the input is that of the evaluation, bit for bit.
Without it the probabilities of students of 51 thousand parameters moved by up to 0.045 on 69 real fundus photographs,
0.064 on 187 chest x-rays and 0.078 on 399 endoscopic frames, and 0, 4 and 20 images changed their class.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from models.augmentation.plain_view import decode, plain_view, to_input
from tasks.preprocessing.dicomfile import can_read_dicom, is_burned_in, is_dicom
from tasks.preprocessing.formats import DEEP, bits_in_use, read_header
from tasks.preprocessing.stored_image import ImageRecipe, store_image, store_pixels
from tasks.preprocessing.unreadable import UnreadableError

FORMAT = 1
"""Of the document; raised when one of before would mean something else."""

_FORMATS = ["JPEG", "PNG", "TIFF", "BMP", "WebP", "GIF"]
_AREA = "shrinking averages areas (OpenCV's INTER_AREA), growing is bilinear (INTER_LINEAR)"


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a photograph before a network looks at it."""

    recipe: ImageRecipe  # of ingestion
    view_size: int  # side of the plain view in pixels
    input_size: int  # side of the network's input in pixels
    mean: Sequence[float]  # of R, G and B, for values scaled to 0..1; so is std
    std: Sequence[float]

    def stored(self, data: bytes) -> np.ndarray:
        """The image that ingestion would store, decoded: RGB uint8 [H, W, 3].

        Args:
            data: the bytes of a file, as it came from the device.

        Raises:
            UnreadableError: no image of a format that is taken, damaged, too large, or of deeper samples than those of
                the corpus.
        """
        if is_dicom(data):
            self._check_dicom(data)
        header = read_header(data, self.recipe.max_pixels)
        if header.deep and header.bits is None and self.recipe.bits < DEEP:
            bits = bits_in_use(data, header)
            if bits > self.recipe.bits:
                raise UnreadableError(
                    f"its samples need {bits} bits, and those that the network learned from have {self.recipe.bits} in "
                    "use; scale them as the device does"
                )
        return decode(store_image(data, header, self.recipe).data)

    def stored_of_pixels(self, image: np.ndarray) -> np.ndarray:
        """`stored` of a photograph that the caller has decoded, upright and whole: RGB uint8 [H, W, 3]."""
        height, width = image.shape[:2]
        if width * height > self.recipe.max_pixels:
            raise UnreadableError(
                f"too large: {width} x {height} pixels, and max_pixels allows {self.recipe.max_pixels}"
            )
        if self.recipe.encode == "keep":
            return image
        return decode(store_pixels(np.ascontiguousarray(image[..., ::-1]), self.recipe).data)

    def view(self, stored: np.ndarray) -> np.ndarray:
        """The plain view of a stored image, RGB uint8 [view_size, view_size, 3], as evaluation renders it."""
        return plain_view(stored, self.view_size)

    def network_input(self, views: np.ndarray) -> np.ndarray:
        """Views uint8 [B, view_size, view_size, 3] as float32 [B, 3, input_size, input_size]."""
        return to_input(views, self.input_size, self.mean, self.std)

    def _check_dicom(self, data: bytes) -> None:
        if self.recipe.encode == "keep":
            raise UnreadableError("the content is DICOM, which is not taken (encode: keep); export it as PNG")
        if not can_read_dicom():
            raise UnreadableError(
                "the content is DICOM, which is read where pydicom is installed (and python-gdcm, for compressed "
                f"ones); install them, or export it as one of {', '.join(_FORMATS)}"
            )
        if is_burned_in(data) and not self.recipe.mask:
            raise UnreadableError("the DICOM says that text is burned into its pixels; the network has seen none such")

    def document(self) -> dict[str, Any]:
        """What is done, in order; `of_document` reads it."""
        return {"format": FORMAT, "input": self._input(), "steps": [*self._stored_steps(), *self._network_steps()]}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """What a document says.

        Raises:
            ValueError: it asks for something that this code does not do.
        """
        if document.get("format") != FORMAT:
            raise ValueError(f"preprocessing.json has format {document.get('format')!r}; this code reads {FORMAT}")
        steps = {step["do"]: step for step in document["steps"]}
        resize = steps.get("resize", {"shorter_side": None})
        recipe = ImageRecipe(
            size=resize["shorter_side"],
            encode=steps["encode"]["as"],
            quality=steps["encode"].get("quality", 0),
            crop=steps["crop"]["kind"] if "crop" in steps else "none",
            max_pixels=document["input"]["max_pixels"],
            bits=steps["decode"]["bits"],
            mask=steps["mask"]["polygons"] if "mask" in steps else (),
        )
        last = steps["normalise"]
        found = cls(recipe, steps["plain_view"]["side"], steps["network_size"]["side"], last["mean"], last["std"])
        again = json.loads(json.dumps(found.document()))
        for part in ("input", "steps"):
            if again[part] != document[part]:
                raise ValueError(
                    f"preprocessing.json: {part} are not what this code does; keep the file as it was registered"
                )
        return found

    def _input(self) -> dict[str, Any]:
        keep = self.recipe.encode == "keep"
        return {
            "takes": "the bytes of one image file as the device wrote it, of any size: not cropped, not resized, not "
            "encoded again, nothing painted over; or its pixels decoded by the caller, upright, RGB uint8 "
            "[height, width, 3], which differ slightly where a large JPEG is decoded at a reduced scale here",
            "formats": _FORMATS,
            "dicom": "not taken" if keep else "where pydicom is installed (and python-gdcm, for compressed ones)",
            "several_pages": "the first counts",
            "max_pixels": self.recipe.max_pixels,
        }

    def _stored_steps(self) -> list[dict[str, Any]]:
        recipe = self.recipe
        steps: list[dict[str, Any]] = [
            {
                "do": "decode",
                "orientation": "of Exif, applied",
                "colours": "RGB uint8; grey becomes three equal channels, CMYK is turned without a colour profile",
                "alpha": "dropped",
                "deep_samples": "the highest 8 of the bits in use; a file that says how many it stores is believed",
                "bits": recipe.bits,
                "jpeg_scale": "1/8, 1/4, 1/2 or 1: the smallest that leaves the shorter side of what is kept its pixels"
                if recipe.size
                else "1",
            }
        ]
        if recipe.mask:
            polygons = [[list(corner) for corner in polygon] for polygon in recipe.mask]
            steps.append({"do": "mask", "colour": "black", "unit": "share of width, of height", "polygons": polygons})
        elif recipe.crop != "none":
            steps.append({"do": "crop", "kind": recipe.crop, "not_found": "the frame stays whole"})
        if recipe.size is not None:
            steps.append({"do": "resize", "shorter_side": recipe.size, "enlarge": False, "interpolation": "area"})
        encode: dict[str, Any] = {"do": "encode", "as": recipe.encode}
        if recipe.encode == "jpeg":
            encode |= {"quality": recipe.quality, "why": "training saw decoded JPEG; it is made and decoded again"}
        elif recipe.encode == "keep":
            encode |= {"why": "the file's own pixels are kept"}
        return [*steps, encode]

    def _network_steps(self) -> list[dict[str, Any]]:
        return [
            {"do": "plain_view", "part": "largest centred square", "side": self.view_size, "interpolation": _AREA},
            {"do": "network_size", "side": self.input_size, "interpolation": _AREA},
            {
                "do": "normalise",
                "value": "(x / 255 - mean) / std",
                "channels": "R, G, B",
                "mean": list(self.mean),
                "std": list(self.std),
                "layout": "float32 [batch, channel, row, column]",
            },
        ]
