"""Curves as SVG that takes its colours from the page, so that one drawing serves light, dark and paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tasks.report.curves import Curve

_WIDE, _HIGH = 400, 400  # of the drawing, in its own units
_LEFT, _TOP, _SIDE = 48, 12, 330  # where the square of the axes is


def chart(
    curves: Sequence[Curve],
    *,
    across: str,
    up: str,
    title: str,
    diagonal: bool = False,
    level: float | None = None,
    point: tuple[float, float] | None = None,
    dots: bool = False,
) -> str:
    """A square picture with both axes from 0 to 1; the legend is `legend`.

    Args:
        across, up: names of the axes.
        title: for those who cannot see the picture.
        diagonal: draw the line of equal values.
        level: draw a horizontal line there.
        point: a mark, the operating point.
        dots: mark each value of the curves.
    """
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDE} {_HIGH}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
    ]
    for tick in range(6):
        value = tick / 5
        x, y = _x(value), _y(value)
        parts.append(f'<path class="grid" d="M{x} {_y(0)}V{_y(1)}M{_x(0)} {y}H{_x(1)}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{_y(0) + 16}" text-anchor="middle">{value:.1f}</text>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.1f}</text>')
    if diagonal:
        parts.append(f'<path class="guide" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>')
    if level is not None:
        parts.append(f'<path class="guide" d="M{_x(0)} {_y(level)}H{_x(1)}"/>')
    # The first is drawn last, over the others.
    for number, curve in reversed(list(enumerate(curves))):
        points = [(_x(float(x)), _y(float(y))) for x, y in zip(curve.x, curve.y, strict=True)]
        line = "L".join(f"{x} {y}" for x, y in points)
        parts.append(f'<path class="curve s{number}" d="M{line}"/>')
        if dots:
            parts += [f'<circle class="dot s{number}" cx="{x}" cy="{y}" r="3.5"/>' for x, y in points]
    if point is not None:
        x, y = _x(point[0]), _y(point[1])
        parts.append(f'<circle class="point" cx="{x}" cy="{y}" r="6"/>')
    middle = _TOP + _SIDE / 2
    parts += [
        f'<text class="axis" x="{_LEFT + _SIDE / 2}" y="{_HIGH - 18}" text-anchor="middle">{escape(across)}</text>',
        f'<text class="axis" x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        f"{escape(up)}</text>",
        "</svg>",
    ]
    return "".join(parts)


def legend(curves: Sequence[Curve], figure: str = "") -> str:
    """HTML list of the curves' names with their colours.

    Args:
        figure: name of the curves' areas; "" where they have none.
    """
    items = []
    for number, curve in enumerate(curves):
        area = f" <small>{escape(figure)} {curve.area:.3f}</small>" if figure and curve.area is not None else ""
        items.append(f'<li><svg class="key" viewBox="0 0 24 8"><path class="curve s{number}" d="M1 4H23"/></svg>')
        items.append(f"{escape(curve.name)}{area}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def _x(value: float) -> float:
    return round(_LEFT + _SIDE * value, 1)


def _y(value: float) -> float:
    return round(_TOP + _SIDE * (1 - value), 1)
