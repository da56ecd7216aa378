"""Ask a student of Stillroom with onnxruntime, numpy and Pillow alone: python consumer.py MODEL IMAGE [IMAGE ...]

MODEL is the folder of a registered model, as `stillroom pull` copies it. One line of JSON an image: its probabilities
by class. What is done to a photograph is read from preprocessing.json; a step that is not known here is refused, and
student.py in MODEL does it. The step `crop` needs crop.py beside this file.

How near it is to student.py, whose pixels come from OpenCV: on 127 fundus photographs, 121 endoscopic frames and 121
chest x-rays the largest differences of a probability were 0.009, 0.015 and 0.021, half of them below 0.002, and the
class was the same for all of them; with the mask of Hyper-Kvasir it was 0.014, and one of 121 near a tie changed its
class. Expect 0.03 at most. (Shrinking by Pillow instead of `area` moves pixels by up to 11
of 255 levels.)
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageOps


def area(image, height, width):
    """uint8 [H, W, 3] -> uint8 [height, width, 3]: the mean of what each new pixel covers, as OpenCV's INTER_AREA."""
    for axis, side in enumerate((height, width)):
        x = np.moveaxis(image, axis, 0).astype(np.float64)
        edges = np.linspace(0, len(x), side + 1)
        low = np.minimum(edges.astype(int), len(x) - 1)
        sums = np.concatenate([np.zeros_like(x[:1]), np.cumsum(x, axis=0)])[low] + (edges - low)[:, None, None] * x[low]
        image = np.moveaxis(np.diff(sums, axis=0) * side / len(x), 0, axis)
    return np.rint(image).astype(np.uint8)


def square(image, side):
    """The image [S, S, 3] at another side: shrinking averages areas, growing is bilinear."""
    if len(image) < side:
        return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    return area(image, side, side) if len(image) > side else image


def decode(file, step, size, kept=None):
    """A file as RGB uint8 [H, W, 3], upright; a JPEG at the reduced scale that leaves `kept` pixels at least `size`."""
    image = Image.open(file)
    if image.mode.startswith(("I", "F")):
        sys.exit(f"{file}: its samples have more than 8 bits; the step 'decode' of those is done by student.py")
    factor = next((f for f in (8, 4, 2) if size and (kept or min(image.size)) >= f * size), 1)
    if image.format == "JPEG":
        image.draft(None, (image.width // factor, image.height // factor))
    return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def crop(image, step, size, file):
    """The part of the frame that shows something, decoded again: a part may need a larger scale than the whole."""
    from crop import cut, find

    if (box := find(image, step["kind"], area)) is None:
        return image
    with Image.open(file) as header:
        turned = header.getexif().get(0x0112, 1) > 4
        width, height = header.size[::-1] if turned else header.size
    sides = (box[2] - box[0]) * width, (box[3] - box[1]) * height
    kept = max(sides) if step["kind"] == "fundus" else min(sides)
    return cut(decode(file, step, size, kept), box, step["kind"])


def mask(image, step, size, file):
    """The image with the polygons black."""
    picture = Image.fromarray(image)
    for polygon in step["polygons"]:
        corners = np.maximum(np.floor(np.array(polygon) * picture.size - 0.5), 0)
        ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners], fill=(0, 0, 0))
    return np.asarray(picture)


def resize(image, step, size, file):
    """The image with a shorter side of `size` pixels; never enlarged."""
    height, width = image.shape[:2]
    short = min(height, width)
    if short <= size:
        return image
    return area(image, max(size, round(height * size / short)), max(size, round(width * size / short)))


def encode(image, step, size, file):
    """JPEG made and read again: training saw decoded JPEG."""
    if step["as"] != "jpeg":
        return image
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=step["quality"])
    return np.asarray(Image.open(data))


def plain_view(image, step, size, file):
    """The largest centred square, at the side of the step."""
    height, width = image.shape[:2]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    return square(image[top : top + least, left : left + least], step["side"])


STEPS = {
    "decode": lambda image, step, size, file: decode(file, step, size),
    "crop": crop,
    "mask": mask,
    "resize": resize,
    "encode": encode,
    "plain_view": plain_view,
    "network_size": lambda image, step, size, file: square(image, step["side"]),
    "normalise": lambda image, step, size, file: image,  # the graph does it
}


def main(model, *files):
    folder = next(path for path in (Path(model), Path(model) / "artifacts") if (path / "network.onnx").is_file())
    about, recipe = (json.loads((folder / name).read_text("utf-8")) for name in ("about.json", "preprocessing.json"))
    if unknown := [step["do"] for step in recipe["steps"] if step["do"] not in STEPS]:
        sys.exit(f"this example does not do the step {unknown[0]!r} of preprocessing.json; student.py in {model} does")
    size = next((step["shorter_side"] for step in recipe["steps"] if step["do"] == "resize"), None)
    session = onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])
    for file in files:
        image = None
        for step in recipe["steps"]:
            image = STEPS[step["do"]](image, step, size, file)
        logits = session.run(["logits"], {"image": image[None]})[0][0].astype(np.float64)
        raised = np.exp(logits - logits.max())
        probabilities = 1 / (1 + np.exp(-logits)) if about["task"] == "multilabel" else raised / raised.sum()
        answer = dict(zip(about["classes"], probabilities.round(6).tolist(), strict=True))
        print(json.dumps({"file": str(file), **answer}))


if __name__ == "__main__":
    main(*sys.argv[1:])
