"""The line that training prints."""

import datetime
import logging
import math
import sys
from collections.abc import Iterable
from typing import Any

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.runner import LogProcessor

from medseg_kd.engine.step_times import PARTS, StepTimesHook
from medseg_kd.registry import LOG_PROCESSORS

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


@LOG_PROCESSORS.register_module()
class TrainLogProcessor(LogProcessor):
    """Iteration, loss and its terms, norm of the gradients of the last update, learning rate, time, images and
    megapixels a second (of all processes), share of the time spent waiting for data, milliseconds of the parts of a
    step (:class:`~medseg_kd.engine.step_times.StepTimesHook`), memory, time left.

    Args:
        window_size: Iterations that the shown values are averaged over.
        mean_pattern: Names of the values that are; of others the last one is shown.
    """

    def __init__(self, window_size: int = 50, mean_pattern: str = ".*(loss|time).*", **kwargs: Any) -> None:
        super().__init__(window_size=window_size, by_epoch=False, mean_pattern=mean_pattern, **kwargs)
        self._unseen = [each.get("data_src", "loss") for each in self.custom_cfg]

    def get_log_after_iter(self, runner: Any, batch_idx: int, mode: str) -> tuple[dict[str, Any], str]:
        """Values for the log files and the line for the terminal.

        ``memory`` is the peak in MB: of the GPU's allocator since the last line, else of the process (resident).
        """
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != "train":
            return tag, line
        self._tell_unseen(runner.message_hub.log_scalars)
        # MMEngine has read the GPU's peak, and reset it.
        tag.setdefault("memory", _resident_megabytes())
        tag["data_share"] = tag["data_time"] / max(tag["time"], 1e-9)
        batch_size = runner.train_dataloader.batch_size or math.nan  # None where a batch sampler decides
        tag["images_per_second"] = batch_size * get_world_size() / max(tag["time"], 1e-9)
        speed = f"{tag['images_per_second']:.1f} images/s"
        if pixels := getattr(runner.bare_model.data_preprocessor, "pixels", 0):
            tag["megapixels_per_second"] = pixels * get_world_size() / max(tag["time"], 1e-9) / 1e6
            speed += f", {tag['megapixels_per_second']:.2f} Mpx/s"
        clocks = [hook.clock for hook in getattr(runner, "hooks", ()) if isinstance(hook, StepTimesHook) and hook.clock]
        taken = clocks[0].read() if clocks else {}
        parts = {part: taken[part] for part in PARTS if part in taken}
        tag.update({PARTS[part]: milliseconds for part, milliseconds in parts.items()})
        terms = {key: value for key, value in tag.items() if "loss" in key and key != "loss"}
        shown = [
            f"[{runner.iter + 1:>{len(str(runner.max_iters))}}/{runner.max_iters}]",
            f"loss {tag['loss']:.4f}",
            f"({', '.join(f'{key} {value:.4f}' for key, value in terms.items())})",
            *([f"grad_norm {tag['grad_norm']:.3g}"] if "grad_norm" in tag else []),
            f"lr {tag['lr']:.2e}",
            f"{1e3 * tag['time']:.1f} ms/iter ({speed})",
            f"data wait {tag['data_share']:.0%}",
            *([", ".join(f"{part} {each:.1f}" for part, each in parts.items()) + " ms"] if parts else []),
            f"memory {tag['memory']} MB",
            f"eta {datetime.timedelta(seconds=int(runner.message_hub.get_info('eta')))}",
        ]
        return tag, "  ".join(shown)

    def _tell_unseen(self, scalars: Iterable[str]) -> None:
        """Warn once of losses in ``custom_cfg`` that the training does not have, which MMEngine passes over."""
        logged = sorted(name.removeprefix("train/") for name in scalars if name.startswith("train/"))
        if missing := [name for name in self._unseen if "loss" in name and name not in logged]:
            print_log(
                f"log_processor.custom_cfg names {', '.join(missing)}, which this training does not log; it logs "
                f"{', '.join(logged)}",
                "current",
                logging.WARNING,
            )
        self._unseen = []


def _resident_megabytes() -> int:
    """Peak resident memory of this process; 0 where the system does not tell."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)
