"""Attention fusion of several teachers' features: the relation-based framework of paper 2 (2308.08731).

We know only the abstract of the paper: multi-head attention fuses the features of several teachers as the student's
target. How queries, keys and values are formed, the width, the heads and the distance are not known to us; they are
options, and this whole module is our reading.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.feature_losses.base import FeatureLoss, Shape, as_map, as_vector, only_tap, pooled_to
from models.losses.labels import label_loss
from models.losses.targets import Targets


class Fusion(FeatureLoss):
    """Distance between the student's projected feature and the teachers' fused ones; one value a sample [N].

    With `tokens: pooled` each teacher's feature (maps are averaged over their positions) becomes a token of `width`;
    with `tokens: spatial` maps are averaged down to `grid` x `grid` and each position of each teacher is a token, so
    that details are localised; each position of the student's map then has a target of its own: the mean of the
    teachers' attended tokens there. The paper's choice is not known to us; pooled is the default because it needs no
    map of a teacher, so that stored features serve. With `query: teachers`
    the tokens attend to each other, and their mean is the fused vector; with `query: student` the student's projected
    feature is the query. The residual is the tokens themselves in either case, never the query: a target that contains
    the student's own feature has a trivial solution. Layer norms have no learned scale, so that the target can neither
    shrink nor grow.

    Fusion and the student's projection are both trained; on the distance alone they would collapse to a constant. So
    the fusion is trained by another loss: a linear head on the fused vector predicts the image's label, or the mean of
    the teachers' probabilities where there is no label, and its cross-entropy is added to the loss; the distance uses
    the detached fused vector. The cross-entropy has no gradient in the student.

    Args:
        width: of tokens and fused vector.
        heads: of the attention; divides `width`.
        query: teachers or student.
        feed_forward: add the two-layer network of a transformer block after the attention.
        distance: mse, or cosine (one minus the cosine).
        tokens: pooled or spatial.
        grid: positions a side of spatial tokens.

    Raises:
        ValueError: several taps of the student, heads that do not divide the width, an unknown query, distance or kind
            of tokens, or spatial tokens of features that are vectors.
    """

    def __init__(
        self,
        own: list[Shape],
        theirs: list[Shape],
        *,
        classes: int,
        samples: int,
        temperature: float,
        width: int,
        heads: int,
        query: str,
        feed_forward: bool,
        distance: str,
        tokens: str = "pooled",
        grid: int = 4,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"fusion: {heads} heads do not divide a width of {width}")
        if query not in ("teachers", "student"):
            raise ValueError(f"fusion: query is teachers or student, not {query!r}")
        if distance not in ("mse", "cosine"):
            raise ValueError(f"fusion: distance is mse or cosine, not {distance!r}")
        if tokens not in ("pooled", "spatial"):
            raise ValueError(f"fusion: tokens are pooled or spatial, not {tokens!r}")
        if tokens == "spatial" and any(len(shape) != 3 for shape in (*own, *theirs)):
            raise ValueError("fusion: spatial tokens need maps of the student and of each teacher, such as `features`")
        self._query, self._distance, self._grid = query, distance, grid if tokens == "spatial" else 0
        self.project = nn.Linear(only_tap("fusion", own)[0], width)
        self.tokens = nn.ModuleList(nn.Linear(shape[0], width) for shape in theirs)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.feed_forward = (
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)) if feed_forward else None
        )
        self.head = nn.Linear(width, classes)

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """See the class.

        Raises:
            ValueError: there are no teachers' logits.
        """
        if self._grid:
            return self._spatial(own[0], theirs, targets)
        student_NW = self.project(as_vector(own[0]))
        fused_NW = self.fused(theirs, student_NW.detach())
        anchor_N = _anchor(self.head(fused_NW), targets)
        target_NW = fused_NW.detach()
        if self._distance == "mse":
            return (student_NW - target_NW).square().mean(1) + anchor_N
        return 1 - F.cosine_similarity(student_NW, target_NW, dim=1) + anchor_N

    def _spatial(self, own_NDHW: Tensor, theirs: list[Tensor], targets: Targets) -> Tensor:
        """[N] with P = grid * grid positions, each of which has a target."""
        student_NPW = self.project(self._positions(own_NDHW))
        tokens = [token(self._positions(x_N)) for token, x_N in zip(self.tokens, theirs, strict=True)]
        tokens_NKPW = _normed(torch.stack(tokens, dim=1))
        all_NTW = tokens_NKPW.flatten(1, 2)
        # Every position of every teacher may attend to every other.
        query_NQW = all_NTW if self._query == "teachers" else student_NPW.detach()
        attended_NQW, _ = self.attention(query_NQW, all_NTW, all_NTW, need_weights=False)
        kept_NQW = all_NTW if self._query == "teachers" else tokens_NKPW.mean(1)
        out_NQW = _normed(kept_NQW + attended_NQW)
        if self.feed_forward is not None:
            out_NQW = _normed(out_NQW + self.feed_forward(out_NQW))
        fused_NPW = out_NQW.unflatten(1, (-1, student_NPW.shape[1])).mean(1)
        anchor_N = _anchor(self.head(fused_NPW.mean(1)), targets)
        target_NPW = fused_NPW.detach()
        if self._distance == "mse":
            return (student_NPW - target_NPW).square().mean((1, 2)) + anchor_N
        return (1 - F.cosine_similarity(student_NPW, target_NPW, dim=2)).mean(1) + anchor_N

    def _positions(self, x_N: Tensor) -> Tensor:
        """[N, P, D] of a map, averaged down to the grid."""
        return pooled_to(as_map(x_N), (self._grid, self._grid)).flatten(2).transpose(1, 2)

    def fused(self, theirs: list[Tensor], student_NW: Tensor) -> Tensor:
        """The target [N, width] of the teachers' features; `student_NW` is the query where `query` is student."""
        tokens = [token(as_vector(x_N)) for token, x_N in zip(self.tokens, theirs, strict=True)]
        tokens_NKW = _normed(torch.stack(tokens, dim=1))
        query_NQW = tokens_NKW if self._query == "teachers" else student_NW[:, None]
        attended_NQW, _ = self.attention(query_NQW, tokens_NKW, tokens_NKW, need_weights=False)
        kept_NQW = tokens_NKW if self._query == "teachers" else tokens_NKW.mean(1, keepdim=True)
        out_NQW = _normed(kept_NQW + attended_NQW)
        if self.feed_forward is not None:
            out_NQW = _normed(out_NQW + self.feed_forward(out_NQW))
        return out_NQW.mean(1)


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _anchor(z_NC: Tensor, targets: Targets) -> Tensor:
    """[N]: cross-entropy with the label where there is one, with the teachers' mean probabilities elsewhere."""
    t_KNC = targets.teacher_KBC
    if t_KNC is None:
        raise ValueError("fusion reads the teachers' logits too, and this training has none")
    if targets.labels_BC is None:
        on_label_N = label_loss("cross_entropy", prior=(), smoothing=0.0)(z_NC, targets)
        on_teachers_N = F.cross_entropy(z_NC, t_KNC.softmax(-1).mean(0), reduction="none")
    else:
        on_label_N = label_loss("binary", prior=(), smoothing=0.0)(z_NC, targets)
        mean_NC = t_KNC.sigmoid().mean(0)
        on_teachers_N = F.binary_cross_entropy_with_logits(z_NC, mean_NC, reduction="none").mean(1)
    return torch.where(targets.labelled_B, on_label_N, on_teachers_N)
