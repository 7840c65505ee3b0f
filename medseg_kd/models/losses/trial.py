"""A trial call of a loss, so that what is wrong with it is told before the training."""

import copy
import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg_kd.errors import UserError, first_line
from medseg_kd.models.losses.call import LossCall

_ACTIVATIONS = ("softmax", "sigmoid", "other_act")
"""How MONAI's losses name what makes probabilities of logits."""


def try_loss(loss: nn.Module, call: LossCall, outputs: int, classes: int) -> None:
    """Call a copy of a loss on random logits, and find out whether it leaves ignored pixels out.

    Args:
        loss: The loss, tried on the CPU, or where it cannot run there, on the GPU; not where it lies on ``meta``.
        call: How it is called; its ``leaves_out`` is set.
        outputs: Channels of the logits.
        classes: Classes of the labels.

    Raises:
        UserError: The loss fails, gives no finite scalar with a gradient, takes logits for probabilities, or regions
            for classes that exclude each other.
    """
    if any(tensor.is_meta for tensor in (*loss.parameters(), *loss.buffers())):
        return
    loss = copy.deepcopy(loss).eval()
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "Using a target size")  # PyTorch's, where shapes differ and are broadcast
        torch.default_generator.manual_seed(0)
        try:
            _try(loss, call, outputs, classes, "cpu")
        except UserError as error:
            if not torch.cuda.is_available():
                raise
            try:
                _try(loss.cuda(), call, outputs, classes, "cuda")
            except UserError:
                raise error from None


def _try(loss: nn.Module, call: LossCall, outputs: int, classes: int, device: str) -> None:
    """See :func:`try_loss`; what happens to ignored pixels is not tried on a GPU, which could not go on after it."""
    with torch.device("cpu"):
        # As many images as channels would let an axis pass for another.
        logits = torch.randn(3 if outputs == 2 else 2, outputs, 16, 12)
        label = torch.randint(classes, (len(logits), 16, 12))
        shift, elsewhere = torch.randn(len(logits), 1, 16, 12), torch.randn_like(logits)
    elsewhere[:, :, 4:] = 0
    with torch.device(device):
        _check_value(loss, call, logits.to(device).requires_grad_(), label.to(device))
        if device != "cpu":
            return
        if call.regions and _same(loss, call, label, logits, logits + shift):
            raise _no_loss_of_regions(loss, "it forms a softmax")
        label[:, :4] = call.ignore_index
        call.leaves_out = _same(loss, call, label, logits, logits + elsewhere)
        if call.regions and call.leaves_out:
            raise UserError(f"{call.where} leaves out pixels that are in no region. Leave its ignore_index out")


def _check_value(loss: nn.Module, call: LossCall, logits: Tensor, label: Tensor) -> None:
    """Refuse a loss that cannot be called, or that gives what cannot be trained on."""
    target = tuple(call.target(label).shape)
    called = f"loss(logits {tuple(logits.shape)}, {'masks' if call.regions else 'label'} {target})"
    foreign = list(loss.modules()) if call.channel else []
    try:
        value = call.value(loss, logits, label)
    except UserError:
        raise
    except Exception as error:  # whatever a foreign loss raises
        if call.regions:
            raise _no_loss_of_regions(loss, f"{called} fails: {first_line(error)}") from error
        unset = any(getattr(part, "to_onehot_y", True) is False for part in foreign)
        hint = ". Set to_onehot_y=True" if unset else ""
        raise UserError(f"{call.where} cannot be called as {called}: {first_line(error)}{hint}") from error
    if not isinstance(value, Tensor) or value.ndim:
        found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
        raise UserError(
            f"{call.where}: {called} gives a value {found}, expected a scalar, as reduction='mean' gives it"
        )
    if not value.isfinite() or not value.requires_grad:
        found = "no gradient" if value.isfinite() else str(value.item())
        raise UserError(f"{call.where}: {called} gives {found}, so nothing could be trained on it")
    if label.max() < logits.shape[1]:  # one output for each class
        certain = 1e3 * F.one_hot(label, logits.shape[1]).movedim(-1, 1)
        if call.value(loss, certain, label) < -100:
            raise UserError(
                f"{call.where} falls without end as logits grow: it takes them for the logarithms of probabilities. "
                "Take a loss of logits, such as CrossEntropyLoss, or form the log-softmax in one of your own"
            )
    for part in foreign:
        if hasattr(part, "softmax") and not any(vars(part)[key] for key in vars(part) if key.endswith(_ACTIVATIONS)):
            activation = "sigmoid" if call.regions else "softmax"
            raise UserError(f"{call.where} takes logits for probabilities. Set {activation}=True")


def _same(loss: nn.Module, call: LossCall, label: Tensor, *logits: Tensor) -> bool:
    """Whether two logits have the same loss; not where it fails."""
    try:
        first, second = (call.value(loss, each, label) for each in logits)
    except Exception:  # whatever a foreign loss raises on a label that is no class
        return False
    return torch.allclose(first, second, rtol=1e-5, atol=1e-6)


def _no_loss_of_regions(loss: nn.Module, why: str) -> UserError:
    """A loss of classes where regions are learned."""
    return UserError(
        f"model.losses has {type(loss).__name__}, a loss of classes that exclude each other ({why}), but a "
        "RegionSegmentor has outputs that overlap. Write losses=[dict(type='RegionLoss')], or a loss of masks such as "
        "torch.nn.BCEWithLogitsLoss"
    )
