"""``init_cfg=dict(type='Pretrained', checkpoint=...)``: weights that training starts from, loaded whole or refused."""

from typing import Any

import mmengine.registry
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmseg.models.backbones import ResNet
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import load_weights, read_checkpoint
from medseg_kd.models.weights.resnet import convert as convert_resnet
from medseg_kd.models.weights.stem import fit_stem


# MMEngine finds this initialiser by its name and looks in its own registry first. Its own one loads what fits and drops
# the rest with a line in the log; a stem of three channels for an input of one would be dropped.
@mmengine.registry.WEIGHT_INITIALIZERS.register_module(name="Pretrained", force=True)
class Pretrained(PretrainedInit):
    """Loads a checkpoint into a module when training starts.

    A network with weights of its own format says how in a method ``load_pretrained(checkpoint)``. A ResNet of
    MMSegmentation takes OpenMMLab's and torchvision's classification weights. Anything else takes its own
    ``state_dict``. Kernels of RGB images are fitted to a module that takes another number of channels
    (:func:`~medseg_kd.models.weights.stem.fit_stem`); the log says so.

    Args:
        checkpoint: A file, an address, ``torchvision://NAME`` or ``open-mmlab://NAME``.
        prefix: Takes only the weights below this name.

    Raises:
        UserError: The checkpoint cannot be read, or its names and shapes are not the module's.
    """

    def __init__(self, checkpoint: str, prefix: str | None = None, map_location: Any = "cpu") -> None:
        super().__init__(checkpoint, prefix, map_location or "cpu")

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into ``module``."""
        load = getattr(module, "load_pretrained", None)
        if load is not None:
            load(self.checkpoint)
        else:
            weights = read_checkpoint(self.checkpoint, self.map_location)["state_dict"]
            if self.prefix:
                weights = _below(weights, self.prefix, self.checkpoint)
            if isinstance(module, ResNet):
                weights = convert_resnet(weights)
            load_weights(module, fit_stem(weights, module, self.checkpoint), self.checkpoint)
            print_log(f"{type(module).__name__} starts from {self.checkpoint}", "current")
        if hasattr(module, "_params_init_info"):
            update_init_info(module, init_info=self._get_init_info())


def _below(weights: dict[str, Tensor], prefix: str, source: str) -> dict[str, Tensor]:
    """The weights whose names begin with ``prefix``, without it."""
    prefix = prefix.rstrip(".") + "."
    found = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    if not found:
        first = sorted({key.split(".")[0] for key in weights})
        raise UserError(f"{source} has no weights below {prefix!r}; its names begin with {', '.join(first)}")
    return found
