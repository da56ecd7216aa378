"""What our classifiers share with timm's: maps, mean pooling over positions, one linear layer."""

from __future__ import annotations

from torch import Tensor, nn


class PooledClassifier(nn.Module):
    """A network of `forward_features`, which a subclass gives, and a linear head on its mean-pooled map.

    The interface is timm's: `forward_features`, `forward_head`, `forward`, `num_features`, `num_classes`,
    `get_classifier`, `reset_classifier`.

    Attributes:
        classifier: float32 [B, num_features] -> logits [B, num_classes].
    """

    classifier: nn.Linear
    num_features: int
    num_classes: int

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> maps [B, num_features, h, w]."""
        raise NotImplementedError

    def forward_head(self, x_BDHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Maps -> logits [B, num_classes], or the pooled vector [B, num_features] with `pre_logits`."""
        pooled_BD = x_BDHW.mean(dim=(2, 3))
        return pooled_BD if pre_logits else self.classifier(pooled_BD)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images [B, 3, H, W] -> logits [B, num_classes]."""
        return self.forward_head(self.forward_features(x_BCHW))

    def get_classifier(self) -> nn.Linear:
        """The linear head."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one for `num_classes`."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes)
        nn.init.zeros_(self.classifier.bias)
