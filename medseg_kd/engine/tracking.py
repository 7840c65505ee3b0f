"""Curves of a training in TensorBoard, Weights & Biases and MLflow, all in the run folder."""

import os
import re
from abc import abstractmethod
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np
from mmengine.config import Config
from mmengine.visualization import BaseVisBackend, Visualizer

from medseg_kd.errors import UserError, in_short
from medseg_kd.files import write_text
from medseg_kd.registry import VISBACKENDS, found

_COUNTERS = {"iter", "step", "epoch"}


class Tracker(BaseVisBackend):
    """What the three share. Values are called ``train/...`` and ``val/...``, and steps are iterations.

    Only a training writes, and what is resumed goes on with the curves of its run folder; any other begins anew.

    Args:
        save_dir: Taken from MMEngine, not used.

    Raises:
        UserError: The package is not installed.
    """

    package: ClassVar[str]
    is_training = False

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir)
        self._cfg = Config({"work_dir": save_dir})
        self._run: Any = None
        if find_spec(self.package) is None:
            raise UserError(
                f"{type(self).__name__} needs a package that is not installed: pip install {self.package}, or leave it "
                "out of visualizer.vis_backends"
            )

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self._cfg.work_dir).absolute()

    @property
    def experiment(self) -> Any:
        """What the package calls a run or writer, begun where it is not yet."""
        self._init_env()
        return self._run

    def _init_env(self) -> None:
        self._begun(0)

    def add_config(self, config: Config, **_: Any) -> None:
        """Keep the config, which is written with the first value."""
        self._cfg = config

    def add_scalar(self, name: str, value: Any, step: int = 0, **_: Any) -> None:
        """Write one value under its own name."""
        if self._begun(step):
            self._log({name: float(value)}, step)

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None, **_: Any) -> None:
        """Write what MMEngine logs after an iteration or a validation."""
        part = "train" if "iter" in scalar_dict else "val"
        if self._begun(step):
            shown = {name: float(each) for name, each in scalar_dict.items() if name not in _COUNTERS}
            self._log({f"{part}/{name}": each for name, each in shown.items()}, step)

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **_: Any) -> None:
        """Write a picture, (H, W, 3) uint8."""
        if self._begun(step):
            self._log_image(name, image, step)

    def _begun(self, step: int) -> bool:
        """See to it that a training has a run; ``step`` is that of its first value."""
        if self.is_training and self._run is None:
            self._run = self._begin(step if self._cfg.get("resume") else 0)
        return self._run is not None

    def _run_id(self, new: str | None = None) -> str | None:
        """The run that a resumed training goes on with, if any; ``new`` takes its place."""
        file = self.folder / f"{self.package}_run_id.txt"
        if new is not None:
            write_text(file, new)
        elif not self._cfg.get("resume") or not file.is_file():
            return None
        return file.read_text(encoding="utf-8").strip()

    @abstractmethod
    def _begin(self, step: int) -> Any:
        """Begin or go on; what was written from ``step`` on is trained again."""

    @abstractmethod
    def _log(self, values: Mapping[str, float], step: int) -> None: ...

    @abstractmethod
    def _log_image(self, name: str, image: np.ndarray, step: int) -> None: ...


@VISBACKENDS.register_module()
class TensorboardVisBackend(Tracker):
    """Events in ``<run folder>/tensorboard``. What a resumed training trains again takes the place of what was."""

    package = "tensorboard"

    def _begin(self, step: int) -> Any:
        writer = import_module("torch.utils.tensorboard").SummaryWriter(
            str(self.folder / "tensorboard"), purge_step=step
        )
        writer.add_text("config", f"```python\n{self._cfg.pretty_text}\n```", step)
        return writer

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._run.add_scalar(name, value, step)
        self._run.flush()  # else a training that is stopped loses those of two minutes

    def _log_image(self, name: str, image: np.ndarray, step: int) -> None:
        self._run.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._run is not None:
            self._run.close()


@VISBACKENDS.register_module()
class WandbVisBackend(Tracker):
    """A run in ``<run folder>/wandb``, offline unless told otherwise; ``wandb sync`` sends it.

    It holds the values, the pictures and the config: no code, no output, and neither host, user nor repository.

    Args:
        save_dir: See :class:`Tracker`.
        init_kwargs: Arguments of ``wandb.init`` that differ, such as ``dict(mode="online", project="liver")``.
    """

    package = "wandb"

    def __init__(self, save_dir: str, init_kwargs: Mapping[str, Any] | None = None) -> None:
        super().__init__(save_dir)
        self._init_kwargs = dict(init_kwargs or {})

    def _begin(self, step: int) -> Any:
        options: dict[str, Any] = {"mode": "offline", "project": "medseg_kd", "name": self.folder.name}
        options |= {"dir": str(self.folder), "config": self._cfg.to_dict(), **self._init_kwargs}
        if options["mode"] != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at import
        wandb = import_module("wandb")
        # A run of this process that was not ended would be gone on with: each has its own.
        private: dict[str, Any] = dict(console="off", host="", silent=True, save_code=False, reinit="create_new")
        private |= dict(disable_git=True, x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True)
        private |= dict(x_save_requirements=False)
        options.setdefault("settings", wandb.Settings(**private))
        options.setdefault("id", self._run_id() or self._run_id(uuid4().hex[:8]))
        if options["mode"] == "online":
            options.setdefault("resume", "allow")
        return wandb.init(**options)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def _log_image(self, name: str, image: np.ndarray, step: int) -> None:
        # With the values that come next: pictures of a validation come before its scores.
        self._run.log({name: import_module("wandb").Image(image)}, commit=False)

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.finish()


@VISBACKENDS.register_module()
class MLflowVisBackend(Tracker):
    """A run in the file store ``<run folder>/mlruns`` unless told otherwise.

    Args:
        save_dir: See :class:`Tracker`.
        exp_name: Of the experiment.
        run_name: Of the run; None: that of the run folder.
        tags: Of the run.
        tracking_uri: Another store or server.

    Raises:
        UserError: A resumed run is not in the store.
    """

    package = "mlflow"

    def __init__(
        self,
        save_dir: str,
        exp_name: str = "medseg_kd",
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        super().__init__(save_dir)
        self._exp_name, self._run_name, self._tags, self._tracking_uri = exp_name, run_name, tags, tracking_uri

    def _begin(self, step: int) -> Any:
        if self._tracking_uri is None:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the other store needs a database
        mlflow = import_module("mlflow")
        # Not mlflow.start_run, which notes the user, the script and the repository.
        client = mlflow.MlflowClient(self._tracking_uri or (self.folder / "mlruns").as_uri())
        if run := self._run_id():
            try:
                client.update_run(run, status="RUNNING")
            except mlflow.MlflowException as error:
                raise UserError(
                    f"MLflow has no run {run} of {self.folder}: {in_short(error)}. Delete mlflow_run_id.txt there to "
                    "begin a new one"
                ) from error
        else:
            experiment = client.get_experiment_by_name(self._exp_name)
            number = experiment.experiment_id if experiment else client.create_experiment(self._exp_name)
            made = client.create_run(number, tags=self._tags, run_name=self._run_name or self.folder.name)
            run = self._run_id(made.info.run_id)
        self._id = run
        client.log_text(run, self._cfg.pretty_text, "config.py")
        return client

    def _log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            # Characters that it refuses.
            self._run.log_metric(self._id, re.sub(r"[^\w/. -]", "_", name), value, step=step)

    def _log_image(self, name: str, image: np.ndarray, step: int) -> None:
        self._run.log_image(self._id, image, artifact_file=f"{name}_{step}.png")

    def close(self) -> None:
        """End the run."""
        if self._run is not None:
            self._run.set_terminated(self._id)


def with_own_trackers(visualizer: Any) -> Any:
    """The config of a visualizer with the classes of this module in place of MMEngine's of the same names."""
    given = visualizer.get("vis_backends") if isinstance(visualizer, Mapping) else None
    return {**visualizer, "vis_backends": [*map(_own, given)]} if isinstance(given, (list, tuple)) else visualizer


def _own(backend: Any) -> Any:
    kind: Any = found(VISBACKENDS, backend["type"]) if isinstance(backend, Mapping) else None
    if not str(getattr(kind, "__module__", "")).startswith("mmengine."):
        return backend
    return {**backend, "type": VISBACKENDS.module_dict.get(kind.__name__, kind)}


def track_training(visualizer: Visualizer) -> None:
    """Let the trackers of a visualizer write from now on."""
    for backend in visualizer._vis_backends.values():
        if isinstance(backend, Tracker):
            backend.is_training = True
