"""Which unlabelled images an annotator's time is worth most.

Two lists are dealt in turn: by entropy of the ensemble (images that are hard for every teacher) and by disagreement
between teachers (images that each is sure of and that they see differently: what a label settles; query by
committee). Both are in nats and yet of other scale, so ranks are mixed, not values. Where teachers do not differ at
all, one teacher for instance, entropy decides alone.
"""

from __future__ import annotations

import numpy as np

from tasks.select.ranking import ranked
from tasks.select.survey import Survey


def hardest(found: Survey, count: int) -> list[int]:
    """Positions in the pool of the hardest images that teachers could judge, hardest first."""
    able = np.flatnonzero(found.valid)
    keys = found.key[found.pool[able]]
    apart = found.disagreement[able] > 0
    split = np.flatnonzero(apart)
    lists = [
        ranked(found.entropy[able], count, keys),
        [int(split[n]) for n in ranked(found.disagreement[able][split], count, keys[split])],
    ]
    dealt = [deck[n] for n in range(count) for deck in lists if n < len(deck)]
    return [int(able[n]) for n in dict.fromkeys(dealt)][:count]
