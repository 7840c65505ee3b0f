"""Where a run computes: its devices and processes, and what makes a step fast on them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmengine.runner
import torch
from mmengine.device import get_device
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm, is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from medseg_kd.configuration import native_precision
from medseg_kd.datasets.cached_slices import cached_loader
from medseg_kd.engine.activations import checkpoint_activations
from medseg_kd.engine.agreement import owner_of
from medseg_kd.engine.compilation import check_compilation
from medseg_kd.engine.finite import FiniteLossHook
from medseg_kd.engine.graphs import graphed_step
from medseg_kd.engine.hooks import EMAHook, IterationHook, average_over_processes
from medseg_kd.engine.launchers import check_launcher
from medseg_kd.engine.refusal import built_or_nothing
from medseg_kd.engine.step_times import StepTimesHook
from medseg_kd.engine.stopping import StopHook
from medseg_kd.engine.tuning import align_gradients, use_channels_last, with_fused_optimizer
from medseg_kd.errors import UserError
from medseg_kd.registry import OPTIM_WRAPPERS, found
from medseg_kd.signals import LoadingProcess, raise_deaths_once


class DeviceRunner(mmengine.runner.Runner):
    """MMEngine's runner on the devices that there are.

    A model with ``has_unused_parameters`` lets DDP look for parameters without gradient, as
    ``find_unused_parameters=True`` in the config does for any. Without a GPU, processes talk through gloo.
    """

    model: nn.Module
    dumped: Path | None = None
    """The config in the run folder, where this run wrote it and there was none."""
    made: Sequence[Path] = ()
    """Folders that this run made, the innermost first."""
    started_at: int = 0
    """The iteration that training goes on from."""

    def __init__(self, model: Any, work_dir: str, *args: Any, **kwargs: Any) -> None:
        with built_or_nothing(self, work_dir):
            super().__init__(model, work_dir, *args, **kwargs)

    @property
    def has_stepped(self) -> bool:
        """Whether training has come further than it was."""
        return isinstance(self._train_loop, BaseLoop) and self.iter > self.started_at

    def setup_env(self, env_cfg: dict[str, Any]) -> None:
        """Prepare processes and back ends."""
        check_launcher(self._launcher)
        if self.cfg.get("randomness", {}).get("deterministic"):
            # Without a work space of its own size cuBLAS is not deterministic, and PyTorch refuses to use it.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        if self.distributed and not torch.cuda.is_available() and not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo")
        super().setup_env(env_cfg)
        if torch.cuda.is_available() and env_cfg.get("tf32", True):
            torch.set_float32_matmul_precision("high")

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """Register the hooks of the config, those that end a run which is asked to, or diverges, and the clock."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(StopHook())
        self.register_hook(StepTimesHook())
        self.register_hook(IterationHook())
        if not any(isinstance(hook, FiniteLossHook) for hook in self.hooks):
            self.register_hook(FiniteLossHook())

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the wrapper; on the CPU ours for MMEngine's ``AmpOptimWrapper``, on a GPU with a fused optimizer."""
        device = torch.device(get_device())
        kind = found(OPTIM_WRAPPERS, optim_wrapper.get("type")) if isinstance(optim_wrapper, dict) else None
        if kind is AmpOptimWrapper and device.type == "cpu":
            optim_wrapper = native_precision(optim_wrapper)
        built = super().build_optim_wrapper(with_fused_optimizer(optim_wrapper, device))
        if device.type == "cuda" and hasattr(built, "optimizer"):
            built.optimizer.register_step_pre_hook(align_gradients)
        return built

    def build_model(self, model: Any) -> nn.Module:
        """Build the model; a bare network is refused."""
        built = super().build_model(model)
        if not hasattr(built, "train_step"):
            name = type(built).__name__
            raise UserError(
                f"model is a {name}, a network alone. Write model=dict(type='Segmentor', network=dict(type='{name}'), "
                "num_classes=..., losses=[...])"
            )
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to its device; :meth:`load_or_resume` wraps it, as weights may come in other shapes."""
        model = model.to(get_device())
        use_channels_last(model, self.cfg.get("channels_last", "auto"), torch.device(get_device()))
        if not self.distributed or is_model_wrapper(model):
            return super().wrap_model(model_wrapper_cfg, model)
        sync_bn = self.cfg.get("sync_bn")
        # SyncBN exists on GPUs only.
        return model if sync_bn is None or get_device() == "cpu" else convert_sync_batchnorm(model, sync_bn)

    def _init_model_weights(self) -> None:
        """Initialise the weights; then checkpoint the activations that the config names, and not as MMEngine would."""
        super()._init_model_weights()
        if names := self.cfg.get("activation_checkpointing"):
            checkpoint_activations(self.bare_model, names)
            self.cfg.activation_checkpointing = None

    def _distributed_model(self) -> nn.Module:
        """The model in its data-parallel wrapper."""
        if (wrapper := self.cfg.get("model_wrapper_cfg")) is not None:
            return super().wrap_model(wrapper, self.model)
        search = self.cfg.get("find_unused_parameters", False) or getattr(self.model, "has_unused_parameters", False)
        devices = None if get_device() == "cpu" else [int(os.environ["LOCAL_RANK"])]
        return MMDistributedDataParallel(
            self.model, device_ids=devices, broadcast_buffers=False, find_unused_parameters=search
        )

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """Build a loader, which collates as the config says, else as the data set does, else as MMEngine does.

        Batches of a data set with a ``cache`` are gathered from it.
        """
        if isinstance(dataloader, dict):
            # What makes no sense without a GPU, or without loading processes, is switched off.
            pinned = torch.cuda.is_available() and dataloader.get("pin_memory", False)
            stay = bool(dataloader.get("num_workers")) and dataloader.get("persistent_workers", False)
            dataloader = {**dataloader, "pin_memory": pinned, "persistent_workers": stay}
        loader = mmengine.runner.Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        loader.worker_init_fn = LoadingProcess(loader.worker_init_fn)
        if loader.num_workers:
            raise_deaths_once()
        if isinstance(dataloader, dict) and "collate_fn" not in dataloader:
            loader.collate_fn = getattr(owner_of(loader.dataset, "collate"), "collate", loader.collate_fn)
            loader = cached_loader(loader, torch.device(get_device()))
        return loader

    def average_statistics(self) -> None:
        """Give all processes the same running statistics of norms, of averaged weights too; all must call it."""
        averaged = (hook.ema_model for hook in self.hooks if isinstance(hook, EMAHook))
        for model in (self.bare_model, *averaged):
            average_over_processes(model)

    def _maybe_compile(self, target: str) -> None:
        """Compile the model where the config says so and it is safe; else make a step one CUDA graph where that is."""
        check_compilation(self.cfg.get("compile"), self.bare_model, get_device())
        super()._maybe_compile(target)
        if target == "train_step" and not self.cfg.get("compile"):
            asked, batch_size = self.cfg.get("cuda_graph", "auto"), self.train_dataloader.batch_size
            step = graphed_step(self.model, self.optim_wrapper, asked, batch_size, self.hooks)
            if step is not None:
                self.model.train_step = step  # type: ignore[assignment]

    @property
    def bare_model(self) -> Any:
        """The model without a data-parallel wrapper."""
        return self.model.module if is_model_wrapper(self.model) else self.model
