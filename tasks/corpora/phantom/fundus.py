"""Draw one phantom fundus photograph: a retina whose grade follows counts and kinds of lesions.

Grades borrow the order of the international diabetic-retinopathy scale, nothing of its medicine:

    0  no lesion
    1  microaneurysms only
    2  microaneurysms, a few haemorrhages, hard exudates
    3  many haemorrhages, cotton-wool spots
    4  new vessels, on top of what grade 2 or 3 shows

Everything else varies without regard to the grade: colour, light, field of view, disc, vessels, blur. Each lesion
that darkens or brightens also takes the place of one edgeless patch of about the same total weight, so a thumbnail,
in which only totals survive, says next to nothing about the grade.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.corpora.phantom.canvas import (
    Canvas,
    Curve,
    axes,
    blob,
    generator,
    haze,
    smooth_field,
    strokes,
    tint,
    to_photograph,
)

GRADES = 5

BLOOD = (0.50, 0.22, 0.30)
EXUDATE = (1.35, 1.75, 1.35)
COTTON = (1.30, 1.60, 1.70)
VESSEL = (0.72, 0.45, 0.50)
NEW_VESSEL = (0.62, 0.34, 0.38)

DARK_MARKS = 20
"""Dark lesions, weighed in haemorrhages, and edgeless dark patches together, on average, in every image."""

ANEURYSMS_PER_MARK, MARKS_PER_TANGLE = 4, 3
"""How many microaneurysms weigh as much as one haemorrhage, and how many haemorrhages weigh as much as one tangle."""

BRIGHT_MARKS = 7
"""Exudate clusters, cotton-wool spots and edgeless bright patches together, on average, in every image."""


@dataclass(frozen=True)
class Lesions:
    """How many of each kind one eye shows."""

    microaneurysms: int
    haemorrhages: int
    exudates: int
    cotton_wool: int
    new_vessels: int


def lesions_of(grade: int, rng: np.random.Generator) -> Lesions:
    """Draw the lesion counts of an eye of `grade` (0 to 4). Raises ValueError for another grade."""
    if grade not in range(GRADES):
        raise ValueError(f"a phantom fundus has a grade from 0 to {GRADES - 1}, not {grade}")

    def between(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    if grade == 0:
        return Lesions(0, 0, 0, 0, 0)
    if grade == 1:
        return Lesions(between(6, 12), 0, 0, 0, 0)
    like = grade if grade < 4 else between(2, 3)
    fresh = between(2, 3) if grade == 4 else 0
    if like == 2:
        return Lesions(between(4, 10), between(2, 5), between(2, 4), 0, fresh)
    return Lesions(between(4, 10), between(8, 13), between(0, 2), between(2, 4), fresh)


def draw_fundus(seed: int, patient: int, eye: str, grade: int, size: int) -> NDArray[np.uint8]:
    """One fundus photograph, uint8 RGB [size, size, 3], the same for the same arguments.

    `eye` is "left" or "right"; both eyes of a patient share complexion and camera. `size` is in pixels, from 64.
    Raises ValueError for another eye, another grade, or a smaller size.
    """
    if eye not in ("left", "right"):
        raise ValueError(f'eye must be "left" or "right", not {eye!r}')
    if size < 64:
        raise ValueError(f"a phantom fundus needs at least 64 px a side, not {size}")
    person = generator(seed, "fundus", patient)
    rng = generator(seed, "fundus", patient, eye)
    canvas = _retina(person, rng, size)
    side = (1 if eye == "right" else -1) * (1 if rng.random() < 0.85 else -1)
    disc = (side * rng.uniform(0.16, 0.30), rng.uniform(-0.08, 0.08))
    _disc(canvas, disc, rng)
    haze(canvas, (disc[0] - side * rng.uniform(0.26, 0.34), disc[1] + rng.uniform(0, 0.05)), 0.06, (0.6, 0.6, 0.7))
    tint(canvas, strokes(size, _vessels(disc, side, rng)), VESSEL)
    _paint_lesions(canvas, lesions_of(grade, rng), disc, rng)
    _field_of_view(canvas, rng, size)
    return to_photograph(canvas, rng, noise=rng.uniform(0.004, 0.02), blur=rng.uniform(0, 0.005))


def _retina(person: np.random.Generator, rng: np.random.Generator, size: int) -> Canvas:
    red = person.uniform(0.62, 0.92)
    base = np.array([red, red * person.uniform(0.42, 0.64), red * person.uniform(0.15, 0.38)], np.float32)
    x, y = axes(size)
    slope, turn = rng.uniform(0, 0.6), rng.uniform(0, 2 * np.pi)
    light = 1 + slope * (x * np.cos(turn) + y * np.sin(turn)) - rng.uniform(0, 1.0) * (x**2 + y**2)
    light = light + rng.uniform(0.03, 0.09) * smooth_field(rng, size, 3)
    texture = 1 + rng.uniform(0.02, 0.06) * smooth_field(rng, size, 9)
    light = light * texture * rng.uniform(0.8, 1.1)
    return np.ascontiguousarray(np.clip(light, 0.15, 2)[..., None].astype(np.float32) * base)


def _disc(canvas: Canvas, at: tuple[float, float], rng: np.random.Generator) -> None:
    radius = rng.uniform(0.05, 0.075)
    stretch, angle = rng.uniform(1, 1.2), rng.uniform(0, np.pi)
    glow = rng.uniform(1.15, 1.4)
    blob(canvas, at, radius, (glow, glow * 1.35, glow * 1.3), edge=0.3, stretch=stretch, angle=angle)
    blob(canvas, at, radius * rng.uniform(0.3, 0.6), (1.1, 1.25, 1.3), edge=0.5)


def _vessels(disc: tuple[float, float], side: float, rng: np.random.Generator) -> list[Curve]:
    curves = []
    t = np.linspace(0, 1, 24)
    for up in (-1, 1):
        for reach in (1.0, 0.55, -0.45):
            bend, far = rng.uniform(0.18, 0.34), rng.uniform(0.45, 0.75)
            x = disc[0] - side * reach * far * t**1.15 + 0.012 * np.sin(rng.uniform(9, 16) * t + rng.uniform(0, 6))
            y = disc[1] + up * bend * np.sin(np.pi * np.minimum(t * rng.uniform(0.7, 1.0), 1)) ** 0.8
            y = y + 0.012 * np.sin(rng.uniform(9, 16) * t + rng.uniform(0, 6)) * t
            trunk, width = np.stack([x, y], 1), rng.uniform(0.008, 0.014)
            curves.append((trunk, width))
            for _ in range(int(rng.integers(1, 4))):
                start = int(rng.integers(4, 18))
                along = trunk[start + 1] - trunk[start]
                turn = np.arctan2(along[1], along[0]) + rng.choice([-1, 1]) * rng.uniform(0.4, 0.9)
                length, curl = rng.uniform(0.12, 0.3), rng.uniform(-1.2, 1.2)
                heading = turn + curl * t
                step = np.stack([np.cos(heading), np.sin(heading)], 1) * length / len(t)
                curves.append((trunk[start] + np.cumsum(step, 0), width * rng.uniform(0.4, 0.7)))
    return curves


def _somewhere(rng: np.random.Generator, disc: tuple[float, float]) -> tuple[float, float]:
    while True:
        radius, turn = 0.36 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        at = (float(radius * np.cos(turn)), float(radius * np.sin(turn)))
        if np.hypot(at[0] - disc[0], at[1] - disc[1]) > 0.1:
            return at


def _paint_lesions(canvas: Canvas, lesions: Lesions, disc: tuple[float, float], rng: np.random.Generator) -> None:
    weight = lesions.haemorrhages + lesions.microaneurysms // ANEURYSMS_PER_MARK
    weight += lesions.new_vessels * MARKS_PER_TANGLE
    dark = max(0, round(rng.normal(DARK_MARKS, 3)) - weight)
    bright = max(0, round(rng.normal(BRIGHT_MARKS, 2)) - lesions.exudates - lesions.cotton_wool)
    for _ in range(dark):
        haze(canvas, _somewhere(rng, disc), rng.uniform(0.03, 0.055), BLOOD, strength=rng.uniform(0.15, 0.35))
    for _ in range(bright):
        haze(canvas, _somewhere(rng, disc), rng.uniform(0.03, 0.055), COTTON, strength=rng.uniform(0.12, 0.3))
    for _ in range(lesions.cotton_wool):
        blob(
            canvas,
            _somewhere(rng, disc),
            rng.uniform(0.032, 0.045),
            COTTON,
            strength=rng.uniform(0.6, 0.9),
            edge=0.7,
            stretch=rng.uniform(1, 1.8),
            angle=rng.uniform(0, np.pi),
            wobble=(0.15, 3, rng.uniform(0, 6)),
        )
    for _ in range(lesions.exudates):
        centre = _somewhere(rng, disc)
        for _ in range(int(rng.integers(4, 9))):
            at = (centre[0] + rng.normal(0, 0.03), centre[1] + rng.normal(0, 0.03))
            blob(canvas, at, rng.uniform(0.011, 0.017), EXUDATE, strength=rng.uniform(0.7, 1), edge=0.3)
    for _ in range(lesions.haemorrhages):
        blob(
            canvas,
            _somewhere(rng, disc),
            rng.uniform(0.026, 0.042),
            BLOOD,
            strength=rng.uniform(0.6, 0.95),
            edge=0.35,
            stretch=rng.uniform(1, 2.4),
            angle=rng.uniform(0, np.pi),
            wobble=(0.2, int(rng.integers(2, 5)), rng.uniform(0, 6)),
        )
    for _ in range(lesions.microaneurysms):
        blob(canvas, _somewhere(rng, disc), rng.uniform(0.014, 0.019), BLOOD, strength=rng.uniform(0.7, 1), edge=0.4)
    tangles = [curve for _ in range(lesions.new_vessels) for curve in _tangle(_somewhere(rng, disc), rng)]
    if tangles:
        tint(canvas, strokes(canvas.shape[0], tangles), NEW_VESSEL)


def _tangle(at: tuple[float, float], rng: np.random.Generator) -> list[Curve]:
    curves = []
    for _ in range(int(rng.integers(5, 9))):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.6, 16))
        step = np.stack([np.cos(heading), np.sin(heading)], 1) * 0.015
        curves.append((np.array(at) + np.cumsum(step, 0), 0.010))
    return curves


def _field_of_view(canvas: Canvas, rng: np.random.Generator, size: int) -> None:
    x, y = axes(size)
    radius = rng.uniform(0.43, 0.56)
    shift = rng.uniform(-0.03, 0.03, 2)
    distance = np.sqrt((x - np.float32(shift[0])) ** 2 + (y - np.float32(shift[1])) ** 2)
    mask = np.clip((radius - distance) * size * 0.7 + 0.5, 0, 1)
    if rng.random() < 0.3:
        mask = mask * (np.abs(y) < rng.uniform(0.38, 0.46))
    canvas *= mask[..., None].astype(np.float32)
    canvas += np.float32(rng.uniform(0, 0.03))
