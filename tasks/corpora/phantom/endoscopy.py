"""Draw one phantom endoscopy frame: mucosa whose class follows one local signature.

Six classes carry names of Hyper-Kvasir folders. Their signatures are drawn, not learnt from patients:

    polyps                      one dome: lit on one side, shaded on the other
    ulcerative-colitis-grade-2  scattered small pale ulcers with a red halo
    cecum                       a dark slit inside concentric folds
    bbps-0-1                    sharp-edged brown residue
    esophagitis-a               a few short red streaks with a pale border
    z-line                      one jagged border across the frame

Colour, light, folds, lumen, vessels, highlights, bubbles and edgeless patches vary without regard to the class, and
every signature darkens about as much as it brightens, so that a thumbnail says next to nothing about the class.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.corpora.phantom.canvas import (
    Canvas,
    axes,
    blob,
    generator,
    haze,
    smooth_field,
    strokes,
    tint,
    to_photograph,
)

Point = tuple[float, float]
Painter = Callable[[Canvas, np.random.Generator], None]


def draw_endoscopy(seed: int, number: int, finding: str, size: int) -> NDArray[np.uint8]:
    """Frame `number` showing `finding`, uint8 RGB [size, size, 3], the same for the same arguments.

    `finding` is a key of `FINDINGS`; `size` is in pixels, from 64. Raises ValueError for another finding or a
    smaller size.
    """
    if finding not in FINDINGS:
        raise ValueError(f"no phantom finding {finding!r}; there are {', '.join(FINDINGS)}")
    if size < 64:
        raise ValueError(f"a phantom frame needs at least 64 px a side, not {size}")
    rng = generator(seed, "endoscopy", number)
    canvas = _mucosa(rng, size)
    _folds(canvas, rng)
    _clutter(canvas, rng)
    FINDINGS[finding].paint(canvas, rng)
    _highlights(canvas, rng)
    _mask(canvas, rng, size)
    return to_photograph(canvas, rng, noise=rng.uniform(0.004, 0.02), blur=rng.uniform(0, 0.006))


def _mucosa(rng: np.random.Generator, size: int) -> Canvas:
    red = rng.uniform(0.62, 0.9)
    base = np.array([red, red * rng.uniform(0.45, 0.68), red * rng.uniform(0.36, 0.58)], np.float32)
    x, y = axes(size)
    slope, turn = rng.uniform(0, 0.6), rng.uniform(0, 2 * np.pi)
    light = 1 + slope * (x * np.cos(turn) + y * np.sin(turn)) - rng.uniform(0, 0.9) * (x**2 + y**2)
    light = light + rng.uniform(0.03, 0.1) * smooth_field(rng, size, 3)
    light = light * (1 + rng.uniform(0.02, 0.06) * smooth_field(rng, size, 10)) * rng.uniform(0.8, 1.1)
    canvas = np.ascontiguousarray(np.clip(light, 0.15, 2)[..., None].astype(np.float32) * base)
    # The lumen, where there is one, is a nuisance: any class may look down it.
    if rng.random() < 0.6:
        at = (float(rng.uniform(-0.4, 0.4)), float(rng.uniform(-0.4, 0.4)))
        haze(canvas, at, rng.uniform(0.08, 0.16), (0.3, 0.25, 0.25), strength=rng.uniform(0.3, 0.8))
    return canvas


def _folds(canvas: Canvas, rng: np.random.Generator) -> None:
    t = np.linspace(-1, 1, 24)
    curves = []
    for _ in range(int(rng.integers(1, 4))):
        turn, far, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4), rng.uniform(-0.25, 0.25)
        u, v = 0.75 * t, far + bend * t**2
        points = np.stack([u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)], 1)
        curves.append((points, rng.uniform(0.02, 0.05)))
    size = canvas.shape[0]
    shadow = strokes(size, curves)
    crest = strokes(size, [(points + 0.02, width * 0.6) for points, width in curves])
    tint(canvas, shadow, (0.88, 0.85, 0.85))
    tint(canvas, crest, (1.07, 1.08, 1.08))
    vessels = []
    for _ in range(int(rng.integers(2, 6))):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, 20))
        step = np.stack([np.cos(heading), np.sin(heading)], 1) * rng.uniform(0.01, 0.025)
        vessels.append((rng.uniform(-0.45, 0.45, 2) + np.cumsum(step, 0), rng.uniform(0.004, 0.008)))
    tint(canvas, strokes(size, vessels), (0.88, 0.7, 0.7))


def _clutter(canvas: Canvas, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(4, 10))):
        haze(canvas, _somewhere(rng), rng.uniform(0.03, 0.08), (0.6, 0.4, 0.4), strength=rng.uniform(0.1, 0.4))
    for _ in range(int(rng.integers(4, 10))):
        haze(canvas, _somewhere(rng), rng.uniform(0.03, 0.08), (1.2, 1.4, 1.4), strength=rng.uniform(0.1, 0.4))
    bubbles = []
    turn = np.linspace(0, 2 * np.pi, 20)
    for _ in range(int(rng.integers(0, 5))):
        ring = np.stack([np.cos(turn), np.sin(turn)], 1) * rng.uniform(0.015, 0.035)
        bubbles.append((np.array(_somewhere(rng)) + ring, 0.006))
    if bubbles:
        tint(canvas, strokes(canvas.shape[0], bubbles), (1.3, 1.4, 1.4))


def _highlights(canvas: Canvas, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 7))):
        blob(
            canvas,
            _somewhere(rng),
            rng.uniform(0.008, 0.02),
            (1.9, 2.4, 2.4),
            edge=0.5,
            stretch=rng.uniform(1, 2.5),
            angle=rng.uniform(0, np.pi),
        )


def _mask(canvas: Canvas, rng: np.random.Generator, size: int) -> None:
    x, y = axes(size)
    half, corner = rng.uniform(0.45, 0.5), rng.uniform(0.72, 0.95)
    inside = np.minimum(half - np.maximum(np.abs(x), np.abs(y)), (corner - np.abs(x) - np.abs(y)) * 0.7)
    canvas *= np.clip(inside * size + 0.5, 0, 1)[..., None].astype(np.float32)
    canvas += np.float32(rng.uniform(0, 0.04))


def _somewhere(rng: np.random.Generator, reach: float = 0.4) -> Point:
    return float(rng.uniform(-reach, reach)), float(rng.uniform(-reach, reach))


def _polyp(canvas: Canvas, rng: np.random.Generator) -> None:
    at, radius, turn = _somewhere(rng, 0.26), rng.uniform(0.10, 0.16), rng.uniform(0, 2 * np.pi)
    stretch, angle, wobble = rng.uniform(1, 1.4), rng.uniform(0, np.pi), (0.06, 3, rng.uniform(0, 6))
    toward = (radius * np.cos(turn), radius * np.sin(turn))
    blob(canvas, at, radius * 1.1, (0.62, 0.55, 0.55), edge=0.2, stretch=stretch, angle=angle, wobble=wobble)
    blob(canvas, at, radius, (1.55, 1.65, 1.65), edge=0.15, stretch=stretch, angle=angle, wobble=wobble)
    haze(canvas, (at[0] + 0.4 * toward[0], at[1] + 0.4 * toward[1]), radius * 0.4, (1.25, 1.3, 1.3))
    haze(canvas, (at[0] - 0.6 * toward[0], at[1] - 0.6 * toward[1]), radius * 0.45, (0.6, 0.52, 0.52))


def _ulcers(canvas: Canvas, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(6, 13))):
        at, radius = _somewhere(rng, 0.36), rng.uniform(0.02, 0.032)
        wobble = (0.25, int(rng.integers(2, 5)), rng.uniform(0, 6))
        blob(canvas, at, radius * 1.9, (0.85, 0.55, 0.58), edge=0.4, wobble=wobble)
        blob(canvas, at, radius, (1.3, 2.2, 1.8), edge=0.35, wobble=wobble)


def _orifice(canvas: Canvas, rng: np.random.Generator) -> None:
    at, turn = np.array(_somewhere(rng, 0.26)), rng.uniform(0, 2 * np.pi)
    dark, pale = [], []
    for ring in range(1, int(rng.integers(3, 5))):
        span = np.linspace(0, rng.uniform(3.5, 5.5), 24) + turn + rng.uniform(-0.6, 0.6)
        arc = np.stack([np.cos(span), np.sin(span)], 1) * (0.02 + 0.042 * ring)
        dark.append((at + arc, 0.018))
        pale.append((at + arc * 1.2, 0.018))
    size = canvas.shape[0]
    tint(canvas, strokes(size, dark), (0.66, 0.58, 0.58))
    tint(canvas, strokes(size, pale), (1.3, 1.38, 1.38))
    blob(canvas, (float(at[0]), float(at[1])), 0.028, (0.3, 0.25, 0.25), edge=0.4, stretch=2.6, angle=turn)


def _residue(canvas: Canvas, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(6, 13))):
        at, angle = _somewhere(rng, 0.38), rng.uniform(0, np.pi)
        radius, stretch = rng.uniform(0.025, 0.045), rng.uniform(1, 1.8)
        wobble = (0.3, int(rng.integers(3, 6)), rng.uniform(0, 6))
        blob(canvas, at, radius * 1.25, (1.25, 1.35, 1.2), edge=0.3, stretch=stretch, angle=angle, wobble=wobble)
        blob(canvas, at, radius, (0.62, 0.55, 0.32), edge=0.15, stretch=stretch, angle=angle, wobble=wobble)


def _streaks(canvas: Canvas, rng: np.random.Generator) -> None:
    heading = rng.uniform(0, 2 * np.pi)
    t = np.linspace(0, 1, 12)
    breaks = []
    for _ in range(int(rng.integers(3, 6))):
        turn = heading + rng.normal(0, 0.25)
        line = t[:, None] * np.array([[np.cos(turn), np.sin(turn)]]) * rng.uniform(0.14, 0.26)
        line = line + 0.006 * np.sin(rng.uniform(5, 12) * t)[:, None]
        breaks.append((np.array(_somewhere(rng, 0.3)) + line, rng.uniform(0.016, 0.024)))
    size = canvas.shape[0]
    tint(canvas, strokes(size, [(points, width * 2.4) for points, width in breaks]), (1.2, 1.35, 1.35))
    tint(canvas, strokes(size, breaks), (0.8, 0.35, 0.38))


def _border(canvas: Canvas, rng: np.random.Generator) -> None:
    t = np.linspace(-0.7, 0.7, 60)
    turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
    teeth = np.interp(t, np.linspace(-0.7, 0.7, 22), rng.uniform(-0.055, 0.055, 22))
    v = far + teeth + 0.1 * rng.normal() * t
    size = canvas.shape[0]
    for offset, colour in ((-0.015, (0.7, 0.5, 0.5)), (0.015, (1.25, 1.5, 1.5))):
        w = v + offset
        points = np.stack([t * np.cos(turn) - w * np.sin(turn), t * np.sin(turn) + w * np.cos(turn)], 1)
        tint(canvas, strokes(size, [(points, 0.026)]), colour)


@dataclass(frozen=True)
class Finding:
    """Where Hyper-Kvasir files a class, and how the phantom draws it."""

    tract: str
    group: str
    paint: Painter

    @property
    def organ(self) -> str:
        """The "Organ" column of image-labels.csv."""
        return "Upper GI" if self.tract == "upper-gi-tract" else "Lower GI"


FINDINGS: dict[str, Finding] = {
    "polyps": Finding("lower-gi-tract", "pathological-findings", _polyp),
    "ulcerative-colitis-grade-2": Finding("lower-gi-tract", "pathological-findings", _ulcers),
    "cecum": Finding("lower-gi-tract", "anatomical-landmarks", _orifice),
    "bbps-0-1": Finding("lower-gi-tract", "quality-of-mucosal-views", _residue),
    "esophagitis-a": Finding("upper-gi-tract", "pathological-findings", _streaks),
    "z-line": Finding("upper-gi-tract", "anatomical-landmarks", _border),
}
"""The classes of the phantom, by folder name, in label order."""
