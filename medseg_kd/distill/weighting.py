"""How much a distillation counts: a factor that follows the iteration, and weights that follow the gradients."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.linalg import vector_norm

from medseg_kd.errors import UserError
from medseg_kd.models.losses.gathering import reduced
from medseg_kd.registry import MODELS, build_part

_LIFT = 2.0**12  # of both gradients whose ratio is taken: those of fp16 may vanish otherwise
_ROUNDING = 4 * torch.finfo(torch.float32).eps


class WeightSchedule:
    """A factor of the distillation losses, a function of the iteration alone.

    Args:
        warm_up: Iterations in which it rises to 1, by equal steps.
        decay: ``linear`` or ``cosine`` fall to 0 after that; None stays at 1.
        begin: Iteration at which the fall begins; that after the warm-up if it is not told.
        end: Iteration at which the factor is 0; the end of the run if it is not told.
    """

    def __init__(
        self, warm_up: int = 0, decay: str | None = None, begin: int | None = None, end: int | None = None
    ) -> None:
        self.warm_up, self.decay, self.begin, self.end = warm_up, decay, warm_up if begin is None else begin, end
        if decay not in (None, "linear", "cosine"):
            raise UserError(f"decay is {decay!r}, expected 'linear', 'cosine' or None")
        if decay is None and (begin, end) != (None, None):
            raise UserError("begin and end are those of a decay: set decay='linear' or 'cosine', or leave them out")
        if not all(isinstance(each, int) and each >= 0 for each in (warm_up, self.begin, end or 0)):
            raise UserError(f"warm_up, begin and end are {warm_up}, {begin} and {end}: expected iterations, from 0 on")
        self.at(0, end or 2**62)

    def at(self, iteration: int, max_iters: int) -> float:
        """The factor of an iteration, counted from 0, of a run of ``max_iters``."""
        factor = min(1.0, (iteration + 1) / self.warm_up) if self.warm_up else 1.0
        if self.decay is None:
            return factor
        end = max_iters if self.end is None else self.end
        if self.begin >= end:
            raise UserError(f"the decay begins at iteration {self.begin}, and its end is {end}: expected a later one")
        done = min(max(iteration - self.begin, 0) / (end - self.begin), 1.0)
        return factor * (1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2)


@MODELS.register_module()
class GradientShare(nn.Module):
    """The weight of a loss by a rule: the norm of its gradient at the tap is a share of that of the student's own.

    Both gradients are taken on what the student's recorders hold for the loss, several tensors as one vector, over the
    batches of all processes. They cost a backward pass down to the tap, in one of ``every`` iterations. The weight
    stays on the device; what cannot be measured (rounding alone, numbers that are not finite) leaves it as it was.

    Args:
        share: Of the loss's gradient in the student's own.
        every: Iterations from one measurement to the next.
    """

    weights: Tensor

    def __init__(self, share: float = 0.3, every: int = 50) -> None:
        super().__init__()
        if not 0 < share < math.inf or not isinstance(every, int) or every < 1:
            raise UserError(f"share is {share} and every {every}: expected a number above 0, and iterations from 1 on")
        self.share, self.every = share, every

    def begin(self, names: Sequence[str]) -> None:
        """Start with the weight 1 for each loss of these names."""
        self.names, self.is_due = list(names), True
        self.register_buffer("weights", torch.ones(len(names)))

    def measure(self, losses: Mapping[str, Tensor], own: Tensor, taps: Mapping[str, Sequence[Tensor]]) -> None:
        """Take the weights anew from the losses, the sum of the student's own, and the tensors of each loss."""
        self.is_due = False
        if without := [name for name in self.names if not taps.get(name)]:
            raise UserError(f"GradientShare: {without[0]} is computed from nothing of the student that has a gradient")
        tapped = list({id(each): each for tensors in taps.values() for each in tensors}.values())
        of_own = dict(zip(map(id, tapped), _gradients(own, tapped), strict=True))
        for index, name in enumerate(self.names):
            others = _norm([of_own[id(each)] for each in taps[name]], own)
            its = _norm(_gradients(losses[name], taps[name]), own)
            weight = self.share * others / its
            usable = weight.isfinite() & (weight > 0) & (its > _ROUNDING * others)
            self.weights[index] = torch.where(usable, weight.to(self.weights), self.weights[index])


def _gradients(value: Tensor, taps: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Gradients of a scalar on some tensors; None where it does not depend on one."""
    return torch.autograd.grad(_LIFT * value, list(taps), retain_graph=True, allow_unused=True)


def _norm(gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
    """Norm of gradients as one vector, over the batches of all processes, in float32 or better."""
    given = [each for each in gradients if each is not None]
    norms = [vector_norm(each, dtype=torch.promote_types(each.dtype, like.dtype)) for each in given]
    square = torch.stack(norms).square().sum() if norms else torch.zeros_like(like)
    return (reduced(square) if get_world_size() > 1 else square).sqrt()


class Weighting(nn.Module):
    """What multiplies the losses of a distiller beside their own weights.

    Args:
        schedule: Of all of them.
        rule: Of each.
        names: Of the losses.
    """

    factor: Tensor

    def __init__(self, schedule: WeightSchedule | None, rule: GradientShare | None, names: Sequence[str]) -> None:
        super().__init__()
        self.schedule, self.rule = schedule, rule
        if rule is not None:
            rule.begin(names)
        self.register_buffer("factor", torch.tensor(1.0 if schedule is None else schedule.at(0, 2**62)))

    def set_iteration(self, iteration: int, max_iters: int) -> None:
        """Tell the iteration that comes, counted from 0, and the length of the run."""
        if self.schedule is not None:
            self.factor.fill_(self.schedule.at(iteration, max_iters))
        if self.rule is not None and iteration % self.rule.every == 0:
            self.rule.is_due = True

    def forward(
        self, losses: Mapping[str, Tensor], own: Tensor | None, taps: Mapping[str, Sequence[Tensor]]
    ) -> dict[str, Tensor]:
        """The weighted losses, and their weights under names without "loss", which are logged but not trained on.

        Args:
            losses: By their names.
            own: Sum of the student's own.
            taps: The recorded tensors of each loss.
        """
        if self.rule is None:
            return {**{name: self.factor * value for name, value in losses.items()}, "weight": self.factor.clone()}
        if self.rule.is_due and torch.is_grad_enabled():
            assert own is not None
            self.rule.measure(losses, own, taps)
        weights = dict(zip(self.rule.names, self.factor * self.rule.weights, strict=True))
        told = {f"weight.{name.replace('loss', '').strip('_')}": weights[name] for name in losses}
        return {**{name: weights[name] * value for name, value in losses.items()}, **told}


def read_weighting(cfg: Mapping[str, Any], where: str) -> tuple[dict[str, Any], WeightSchedule | None, Any]:
    """Take from a distiller's config what is said of its weights: the rest, the schedule and the rule.

    Raises:
        UserError: One of them is none.
    """
    cfg = dict(cfg)
    schedule, rule = cfg.pop("weight_schedule", None), None
    if schedule is not None:
        if not isinstance(schedule, Mapping):
            raise UserError(f"{where}.weight_schedule is {schedule!r}, expected dict(warm_up=..., decay=...)")
        schedule = build_part({"type": WeightSchedule, **schedule}, f"{where}.weight_schedule")
    if isinstance(cfg.get("loss_weight"), Mapping):
        rule = build_part(cfg.pop("loss_weight"), f"{where}.loss_weight")
        if not isinstance(rule, GradientShare):
            raise UserError(f"{where}.loss_weight is a {type(rule).__name__}, expected a number or GradientShare")
    return cfg, schedule, rule
