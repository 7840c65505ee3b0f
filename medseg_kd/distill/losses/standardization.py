"""Logits standardised over the classes, as an option of losses that form a softmax of them."""

from torch import Tensor

from medseg_kd.errors import UserError

_EPS = 1e-7
_LEAST = 1e-4  # deviation of logits that tell something: the gradient is divided by it


def standardized(z: Tensor) -> Tensor:
    """Logits (N, C, H, W) of zero mean and unit deviation over the classes of each pixel.

    Logit Standardization in Knowledge Distillation (Sun et al., CVPR 2024): the student matches the teacher's order of
    the classes and their relative distances, not the range of its logits.

    Raises:
        UserError: There are fewer than three classes. Of two, +-1 / sqrt(2) is left, whatever the logits are.
    """
    if z.shape[1] < 3:
        raise UserError(
            f"standardised logits tell nothing with {z.shape[1]} classes: only their order is left, without a "
            "gradient. Set standardize=False, or choose KD in the place of LSKD"
        )
    return (z - z.mean(dim=1, keepdim=True)) / (z.std(dim=1, keepdim=True).clamp(min=_LEAST) + _EPS)
