"""MMSegmentation's FCN head as a plain module."""

from typing import Any

from mmseg.models.decode_heads import FCNHead
from mmseg.models.losses import CrossEntropyLoss


class LogitsHead(FCNHead):
    """Maps a list of features to logits; the segmentor has the losses, so the head keeps none.

    The classifier starts from PyTorch's initialisation. MMSegmentation draws it from N(0, 0.01^2): where organs are a
    thousandth of the pixels, all logits then fall to background before the features tell organs apart, and training
    stands still for hundreds of iterations.

    Arguments are those of MMSegmentation's ``FCNHead`` without ``loss_decode``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(loss_decode=dict(type=CrossEntropyLoss, avg_non_ignore=True), init_cfg=None, **kwargs)
        del self.loss_decode
