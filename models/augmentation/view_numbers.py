"""Numbers of views: which a training sees in an epoch, and which are never stored (DESIGN: View)."""

from __future__ import annotations

FIRST_UNSTORED = 1_000_000
"""Number of the first view that trainings without stored labels draw (DESIGN: View); stored views lie below it.

A teacher that was trained on a view is surer of it than of any other, so it must not label that one.
"""


def epoch_view(epoch: int, count: int) -> int:
    """The stored view used in epoch `epoch` (from 0): in turn the plain one and the `count` random ones.

    The plain one comes first, so that no training is too short to see what evaluation shows.
    """
    return epoch % (1 + count)


def unstored_view(epoch: int, count: int, *, plain: bool) -> int:
    """The view used in epoch `epoch` (from 0) of a training without stored labels: a new one each time.

    Args:
        count: random views that are stored, none of which is used; 0: the spec wants the plain view alone.
        plain: the plain view comes as often as in a training with stored labels; else never, as is right for a
            teacher, which labels it.
    """
    if not count or (plain and not epoch_view(epoch, count)):
        return 0
    return FIRST_UNSTORED + epoch
