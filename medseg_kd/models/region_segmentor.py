"""The segmentor of regions, which may overlap, where another one has classes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.losses import RegionLoss
from medseg_kd.models.segmentor import Segmentor
from medseg_kd.registry import MODELS

Regions = tuple[tuple[str, tuple[int, ...], int], ...]


@MODELS.register_module()
class RegionSegmentor(Segmentor):
    """A segmentor whose network has one sigmoid output for each region, as nnU-Net v2 trains on regions.

    A pixel belongs to a region where its probability is above 1/2, which is where the logit is above 0. It becomes the
    class of the last region that it belongs to, and background where it belongs to none.

    Args:
        network: See :class:`Segmentor`; the number of its outputs that is filled in is that of the regions.
        num_classes: Classes with background of labels and predictions, see :class:`Segmentor`.
        regions: For each output the name of its region, the classes that it is made of, and the class that it becomes.
            The runner takes them from the data where a config does not say.
        losses: Configs of modules called as ``loss(logits, masks)``, both (N, R, H, W), or, where the constructor takes
            ``regions``, as ``loss(logits, label)``.
        options: See :class:`Segmentor`.

    Raises:
        UserError: There are no regions, a loss is one of classes, or as for :class:`Segmentor`.
    """

    _counted = "the number of model.regions"

    def __init__(
        self,
        network: dict[str, Any] | nn.Module,
        num_classes: int | None = None,
        regions: Sequence[tuple[str, Sequence[int], int]] | None = None,
        losses: Sequence[dict[str, Any]] | None = ({"type": RegionLoss},),
        **options: Any,
    ) -> None:
        self.regions = read_regions(regions)
        super().__init__(network, num_classes, losses, **options)

    def decode(self, logits: Tensor) -> Tensor:
        """Classes (N, H, W) uint8 of logits (N, R, H, W)."""
        return decode_regions(logits, self.regions)


def decode_regions(logits: Tensor, regions: Sequence[tuple[str, tuple[int, ...], int]]) -> Tensor:
    """Classes (N, H, W) uint8 of logits (N, R, H, W), as :class:`RegionSegmentor` decodes them."""
    classes = torch.zeros_like(logits[:, 0], dtype=torch.uint8)
    for (_, _, value), inside in zip(regions, (logits > 0).unbind(1), strict=True):
        classes.masked_fill_(inside, value)
    return classes


def read_regions(regions: Any) -> Regions:
    """Regions of a config, whose tuples may have become lists.

    Raises:
        UserError: They are none.
    """
    try:
        read = tuple((str(name), tuple(map(int, members)), int(value)) for name, members, value in regions or ())
    except (TypeError, ValueError):
        read = ()
    if not read:
        raise UserError(
            f"model.regions is {regions!r}: expected (name, classes, class that it becomes) for each region. A runner "
            "takes it from the data where the config leaves it out"
        )
    return read
