"""The step `crop` of preprocessing.json with numpy alone, for consumer.py beside it.

Where a fundus camera's disc or an endoscope's field is in a frame: what is brighter than the margin, opened so that
text and specks vanish, and of that the largest connected part. Where the answer is odd the frame stays whole.
"""

import numpy as np


def find(image, kind, area):
    """(left, top, right, bottom) in shares of the frame, or None; `area` is that of consumer.py."""
    height, width = image.shape[:2]
    scale = min(1.0, 256 / max(height, width))
    grey = area(image, max(1, round(height * scale)), max(1, round(width * scale))).max(axis=2)
    rows, columns = grey.shape
    n = min(12, rows, columns)
    corners = (grey[:n, :n], grey[:n, -n:], grey[-n:, :n], grey[-n:, -n:])
    level, high = min((np.median(corner), np.percentile(corner, 90)) for corner in corners)
    if level > 48:
        return None
    bright = grey > level + max(4.0, 3 * (high - level), 0.06 * (np.percentile(grey, 95) - level))
    side = 7 if kind == "fundus" else 9
    mask = spread(~spread(~bright, side), side)
    if kind == "endoscopy":
        mask = ~spread(~spread(mask, side), side)
    mask = largest_part(mask)
    if not mask.any():
        return None
    down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = down[0], down[-1] + 1, across[0], across[-1] + 1
    wide, tall = right - left, bottom - top
    dark = sum(corner.mean() < 0.5 for corner in (bright[:3, :3], bright[:3, -3:], bright[-3:, :3], bright[-3:, -3:]))
    if kind == "fundus":
        odd = dark < 3 or wide * tall < 0.08 * grey.size or max(wide, tall) > 1.6 * min(wide, tall)
        odd = odd or hull_area(mask) < 0.66 * wide * tall
    else:
        odd = wide * tall < 0.3 * grey.size or min(wide / columns, tall / rows) < 0.4
        odd = odd or hull_area(mask) < 0.6 * wide * tall
    if odd or (wide >= 0.97 * columns and tall >= 0.97 * rows):
        return None
    return left / columns, top / rows, right / columns, bottom / rows


def cut(image, box, kind):
    """The part of the image [H, W, 3]; a fundus is padded with black to a square."""
    height, width = image.shape[:2]
    left, top, right, bottom = box
    part = image[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
    if kind == "endoscopy":
        return part
    tall, wide = part.shape[:2]
    side = max(tall, wide)
    above, before = (side - tall) // 2, (side - wide) // 2
    return np.pad(part, ((above, side - tall - above), (before, side - wide - before), (0, 0)))


def spread(mask, side):
    """The mask [h, w] dilated by OpenCV's ellipse of a side; outside of the frame there is nothing."""
    radius = side // 2
    padded, found = np.pad(mask, radius), np.zeros_like(mask)
    for row in range(side):
        # The widths of the ellipse's rows, as OpenCV rounds them.
        reach = round(radius * np.sqrt(1 - ((row - radius) / radius) ** 2))
        for column in range(radius - reach, radius + reach + 1):
            found |= padded[row : row + mask.shape[0], column : column + mask.shape[1]]
    return found


def largest_part(mask):
    """The connected part [h, w] of the mask that covers the most, by eight neighbours."""
    label = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        rows = np.pad(label, 1)
        rows = np.maximum(np.maximum(rows[:, :-2], rows[:, 2:]), rows[:, 1:-1])
        grown = np.where(mask, np.maximum(np.maximum(rows[:-2], rows[2:]), rows[1:-1]), 0)
        if (grown == label).all():
            break
        label = grown
    counts = np.bincount(label.ravel())
    counts[0] = 0
    return label == counts.argmax() if counts.any() else np.zeros_like(mask)


def hull_area(mask):
    """The area of the convex hull of the mask's pixel centres (monotone chain, Andrew 1979)."""
    rows = np.flatnonzero(mask.any(axis=1))
    ends = [(int(y), int(x)) for y in rows for x in np.flatnonzero(mask[y])[[0, -1]]]
    hull = []
    for points in (ends, ends[::-1]):
        chain = []
        for point in points:
            while len(chain) > 1 and turn(*chain[-2:], point) <= 0:
                chain.pop()
            chain.append(point)
        hull += chain[:-1]
    y, x = np.array(hull, dtype=float).reshape(-1, 2).T
    return abs(y @ np.roll(x, -1) - x @ np.roll(y, -1)) / 2


def turn(a, b, c):
    """Positive where the way from a over b to c bends to one side, negative to the other."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
