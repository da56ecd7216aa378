"""Which engine is worth measuring next: the one whose trial is expected to save the most time, if any saves some.

A pure rule on figures: how much work is left, how fast the best engine so far is, and what is expected of another
before it is measured (a log-normal ratio to the reference, the time to set it up, the chance that it can be used).
While one worker tries an engine the others go on with the reference; once it is taken each of them sets it up too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

COMPARED = 64
"""Images that a trial compares with the reference."""

TIMING_S = 1.0
"""Seconds of a trial that go into timing."""

_QUANTILES = [NormalDist().inv_cdf((n + 0.5) / 16) for n in range(16)]


@dataclass(frozen=True)
class EngineFigures:
    """What was measured of an engine on a network; a rate of 0 says that it cannot run it."""

    rate: float  # images a second of one worker at the best batch
    batch: int
    set_up_s: float


@dataclass(frozen=True)
class Prospect:
    """What is expected of an engine before it is measured on a network."""

    engine: str
    ratio: float  # median of its rate over that of the reference
    spread: float  # standard deviation of the ratio's logarithm; 0: known
    set_up_s: float  # seconds to trace, export or compile the network, importing the library included
    chance: float = 1.0  # that it opens and agrees with float32


@dataclass(frozen=True)
class Work:
    """What is left to do.

    Attributes:
        passes: images, of all workers together.
        workers: passes that run at once, each on threads of its own.
        reference_rate: images a second of one worker on the reference, which runs until the choice is made.
    """

    passes: float
    workers: int
    reference_rate: float

    def seconds(self, rate: float, set_up_s: float = 0.0) -> float:
        """Time on an engine, which every worker but the one that tried it has to set up."""
        if self.passes <= 0:
            return 0.0
        return (self.passes / rate + (self.workers - 1) * set_up_s) / self.workers

    def after(self, seconds: float) -> Work:
        """What is left when all workers but one have gone on with the reference for some time."""
        done = (self.workers - 1) * self.reference_rate * seconds
        return Work(max(0.0, self.passes - done), self.workers, self.reference_rate)


@dataclass(frozen=True)
class Best:
    """The fastest engine so far that can be used."""

    rate: float  # images a second of one worker
    set_up_s: float = 0.0  # of each other worker; 0 for the reference


def expected_saving_s(prospect: Prospect, work: Work, best: Best) -> float:
    """Seconds that trying an engine is expected to save; negative where the trial costs more than it saves."""
    now = work.seconds(best.rate, best.set_up_s)
    expected = 0.0
    for quantile in _QUANTILES:
        rate = work.reference_rate * prospect.ratio * math.exp(prospect.spread * quantile)
        trial_s = prospect.set_up_s + COMPARED / rate + COMPARED / work.reference_rate + TIMING_S
        left = work.after(trial_s)
        otherwise = left.seconds(best.rate, best.set_up_s)
        taken = min(otherwise, left.seconds(rate, prospect.set_up_s))
        expected += (trial_s + prospect.chance * taken + (1 - prospect.chance) * otherwise) / len(_QUANTILES)
    return now - expected


def next_trial(prospects: Iterable[Prospect], work: Work, best: Best) -> Prospect | None:
    """The engine to try next, the one that is expected to save most; None where none is expected to save anything."""
    saving = {prospect: expected_saving_s(prospect, work, best) for prospect in prospects}
    chosen = max(saving, key=lambda prospect: saving[prospect], default=None)
    return chosen if chosen is not None and saving[chosen] > 0 else None
