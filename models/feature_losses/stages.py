"""One for all (OFA-KD, Hao et al. 2023, 2310.19444): every stage of the student answers in logits.

Logits are what networks of any two kinds have in common, so that a transformer can teach a convolutional network's
stages without one map being compared with another.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.feature_losses.base import FeatureLoss, Shape
from models.feature_losses.maps import as_vector
from models.losses.labels import of_classes
from models.losses.targets import Targets


class OneForAll(FeatureLoss):
    """Target-enhanced cross-entropy of each stage's logits, added over the stages; one value a sample [N].

        -sum_c [(p_t + 1_y)^epsilon - 1_y] log p_s

    p_t is the mean of the teachers' probabilities, both sides at `temperature`, without its square, as in the authors'
    code. 1_y is one at the label, and zero throughout for an unlabelled image [our reading]; a mixed picture pays the
    loss of each label by its share. A stage's projector is a mean over positions and a linear layer [our reading; the
    authors use convolutions there]. The student's own head is no stage: it has a term of its own in the objective.

    Args:
        epsilon: exponent; 1: soft cross-entropy, larger: the more confident the teacher, the more the label counts.
    """

    def __init__(
        self,
        own: list[Shape],
        theirs: list[Shape],
        *,
        classes: int,
        samples: int,
        temperature: float,
        epsilon: float,
    ) -> None:
        super().__init__()
        self._temperature, self._epsilon = temperature, epsilon
        self.projectors = nn.ModuleList(nn.Linear(shape[0], classes) for shape in own)

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """See the class.

        Raises:
            ValueError: there are no teachers' logits.
        """
        if targets.teacher_KBC is None:
            raise ValueError("ofa reads the teachers' logits, and this training has none")
        t_NC = (targets.teacher_KBC / self._temperature).softmax(-1).mean(0)
        stages = [project(as_vector(x_N)) for project, x_N in zip(self.projectors, own, strict=True)]
        log_SNC = (torch.stack(stages) / self._temperature).log_softmax(-1)
        is_labelled_N1 = targets.labelled_B[:, None].to(t_NC.dtype)

        def loss(label_N: Tensor) -> Tensor:
            y_NC = F.one_hot(label_N, t_NC.shape[1]) * is_labelled_N1
            return -(((t_NC + y_NC) ** self._epsilon - y_NC) * log_SNC).sum(dim=(0, 2))

        return of_classes(loss, targets)
