"""What the short method types share: each writes the distiller's config from what the two models say of themselves."""

from typing import Any

from torch import nn

from medseg_kd.distill.distiller import ConfigurableDistiller
from medseg_kd.distill.recorders import Logits
from medseg_kd.errors import UserError

Stage = dict[str, Any]


class Method(ConfigurableDistiller):
    """A distiller that configures itself when it meets the models, so that a config names no module and no channel.

    A new method is one class with a :meth:`recipe`.
    """

    def __init__(self) -> None:
        super().__init__()

    def recipe(self, student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
        """The arguments of :class:`ConfigurableDistiller` for this pair."""
        raise NotImplementedError

    def attach(self, student: nn.Module, teacher: nn.Module) -> None:
        """Configure recorders, connectors and losses for the pair, then find their sources."""
        self.configure(**self.recipe(student, teacher))
        super().attach(student, teacher)


def logits_recipe(name: str, loss: dict[str, Any], student: nn.Module, teacher: nn.Module) -> dict[str, Any]:
    """A distiller config that compares the logits of both models at their native resolution.

    Args:
        name: Name of the loss in the log.
        loss: Config of a loss called as ``loss(student, teacher, label=None)``.
        student: The student.
        teacher: The teacher.
    """
    return {
        "student_recorders": {"logits": {"type": Logits, "source": logits_source(student)}},
        "teacher_recorders": {"logits": {"type": Logits, "source": logits_source(teacher)}},
        "distill_losses": {name: loss},
        "loss_forward_mappings": {name: compare("logits")},
    }


def compare(recorder: str, connector: str | None = None) -> dict[str, dict[str, Any]]:
    """The forward mapping of a loss on the recorder that has this name on both sides."""
    return {
        "student": {"recorder": recorder, "from_student": True, "connector": connector},
        "teacher": {"recorder": recorder, "from_student": False},
    }


def logits_source(model: nn.Module) -> str:
    """Where the native logits of a model come from: its ``network``, or the classifier of an MMSegmentation head."""
    return "network" if hasattr(model, "network") else "decode_head.conv_seg"


def stage_pairs(student: nn.Module, teacher: nn.Module) -> list[tuple[Stage, Stage]]:
    """Pair the stages of two models by their order from the deepest; shallow stages of the longer one have no partner.

    Returns:
        (student stage, teacher stage), shallow to deep; a stage is an entry of ``feature_info``.

    Raises:
        UserError: One of the models does not tell its stages.
    """
    stages: list[list[Stage]] = [list(getattr(model, "feature_info", None) or ()) for model in (student, teacher)]
    for whose, model, found in zip(("student", "teacher"), (student, teacher), stages, strict=True):
        if not found:
            network = getattr(model, "network", model)
            raise UserError(
                f"the {whose}'s network {type(network).__name__} has no feature_info, so its stages are not known. "
                "Give it one (a list of dict(module, channels, reduction), shallow to deep), choose a method that "
                "works on logits (KD, DKD, DIST, CWD), or name the modules with ConfigurableDistiller"
            )
    count = min(map(len, stages))
    return list(zip(stages[0][-count:], stages[1][-count:], strict=True))
