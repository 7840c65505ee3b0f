"""Training steps on a GPU that is not there, in a process of its own: ``fake_gpu.py CONFIG...``.

Fake tensors on a device of their own hold no values and refuse to meet those of the CPU, as on a GPU. What the host
would wait for (a number read back, a copy that does not overlap) is listed, and so is the precision of what is
computed. Prints JSON: for each config and precision ``waits``, ``dtypes`` (of convolutions and matrix products, by
whose they are), ``preprocessing`` (of what moves pixels), ``launches`` (kernels of a step, by its parts, with one fused
kernel for an attention as there is on a GPU) and ``saved`` (bytes that a step keeps for its backward pass, at 512x512);
for networks without a teacher also ``checkpointed`` (the same in bf16, with activation checkpointing).
"""

import json
import re
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from medseg_kd.distill.teacher import _CAST as CAST
from medseg_kd.engine.activations import checkpoint_activations
from medseg_kd.engine.tuning import with_fused_optimizer
from medseg_kd.models.networks.resnet_v2 import StdConv2d

ROOT = Path(__file__).parents[2]
SIZE = 512
LOWER = "conv2d conv_transpose2d linear matmul mm bmm addmm baddbmm"
UPPER = (
    "softmax.int log_softmax.int layer_norm group_norm nll_loss mse_loss norm.Scalar pow.Tensor_Scalar "
    "upsample_bilinear2d upsample_nearest2d"
)
"""What PyTorch's autocast on CUDA runs in 16 bits and in 32: as far as we use it."""
_KEPT: list[torch.library.Library] = []
"""What they registered goes with them."""
aten = torch.ops.aten
COMPUTED = (aten.convolution, aten.mm, aten.bmm, aten.addmm)
MOVED = (aten.grid_sampler_2d, aten._upsample_bilinear2d_aa, aten.affine_grid_generator)
STAGES = "|".join(
    (
        r"network\.backbone\.(stem|layer\d)",
        r"network\.(resnet|vit|swinViT|(en|de)coder\d+)",
        r"network\.(encoder|down|bridge|up|decoder(\.blocks)?)\.\d",
    )
)
"""What is checkpointed: stages of encoders and blocks of decoders, of TransUNet and Swin-UNETR the whole encoder."""
FREE = (aten._local_scalar_dense, aten._unsafe_view, aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty)
"""What launches nothing, beside views."""


class FusedAttention(torch.autograd.Function):
    """Attention as a GPU has it, one kernel in each direction; PyTorch gives other devices its parts."""

    @staticmethod
    def forward(ctx: Any, *tensors: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(*tensors, output := tensors[0] + 0)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradient + 0
        return tuple(None if each is None else torch.empty_like(each) for each in ctx.saved_tensors[:4])


def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0) -> torch.Tensor:
    """In place of PyTorch's."""
    dtype = torch.get_autocast_dtype("gpu") if torch.is_autocast_enabled("gpu") else query.dtype
    return FusedAttention.apply(*(each if each is None else each.to(dtype) for each in (query, key, value, attn_mask)))


def set_up() -> FakeTensorMode:
    """A device ``gpu`` with autocast, on which modules move as fake tensors."""
    _DummyBackendModule.get_amp_supported_dtype = lambda self: [torch.bfloat16, torch.float16]
    _setup_privateuseone_for_python_backend("gpu")
    torch.autograd.set_multithreading_enabled(False)  # its threads for a device start when PyTorch is imported
    mode, move = FakeTensorMode(allow_non_fake_inputs=True), torch.nn.Module._apply
    torch.nn.Module._apply = lambda self, fn, recurse=True: move(
        self, lambda t: fn(t if isinstance(t, FakeTensor) else mode.from_tensor(t)), recurse
    )
    torch.nn.functional.scaled_dot_product_attention = attention
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)
    others, library = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _KEPT.extend((others, library))

    def policy(name: str, choose: Any) -> None:
        packet, _, overload = name.partition(".")
        operator = getattr(getattr(aten, packet), overload or getattr(aten, packet).overloads()[0])

        def cast(*args: Any, **kwargs: Any) -> Any:
            floats = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.is_floating_point()]
            dtype = choose(floats)
            args, kwargs = tree_map(lambda t: t.to(dtype) if any(t is one for one in floats) else t, (args, kwargs))
            with torch._C._ExcludeDispatchKeyGuard(key):
                return operator(*args, **kwargs)

        library.impl(operator, cast, "AutocastPrivateUse1")

    for names, choose in (
        (LOWER, lambda floats: torch.get_autocast_dtype("gpu")),
        (UPPER, lambda floats: torch.float32),
    ):
        for name in names.split():
            policy(name, choose)
    return mode


class Observer(TorchDispatchMode):
    """Notes what the host would wait for, and in which precision the device computes."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.dtypes: dict[str, set[str]] = defaultdict(set)
        self.preprocessing: set[str] = set()
        self.launches: Counter[str] = Counter()
        self.saved: dict[int, torch.UntypedStorage] = {}
        self.part = "preprocessing"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors}
        packet = func.overloadpacket
        reads = func is aten._local_scalar_dense.default
        copies = packet in (aten._to_copy, aten.copy_) and {
            *devices,
            torch.device(kwargs.get("device") or args[0].device).type,
        } == {"cpu", "gpu"}
        if (reads and "gpu" in devices) or (copies and not (kwargs.get("non_blocking") or True in args[2:])):
            line = [f for f in traceback.extract_stack()[:-1] if "/torch/" not in f.filename][-1]
            self.waits.append(f"{packet.__name__}: {Path(line.filename).name}:{line.lineno} {line.line}")
        if packet in COMPUTED and self.part in ("student", "teacher"):
            self.dtypes[self.part] |= {str(t.dtype) for t in tensors if t.is_floating_point()}
        if packet in MOVED:
            self.preprocessing |= {str(t.dtype) for t in tensors if t.is_floating_point()}
        if reads:
            return 0.3 if args[0].is_floating_point() else 1
        # Fused optimizers change what they are given and know no fake tensors.
        result = None if packet.__name__.startswith("_fused_") else func(*args, **kwargs)
        views = any(each.alias_info and not each.alias_info.is_write for each in func._schema.returns)
        on_device = any(t.device.type == "gpu" for t in tree_leaves(result) if isinstance(t, torch.Tensor))
        if packet not in FREE and not views and (on_device or (result is None and "gpu" in devices)):
            self.launches[self.part] += 1
        return result

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Note what autograd saves."""
        storage = tensor.untyped_storage()
        self.saved[storage._cdata] = storage
        return tensor

    def during(self, part: str) -> Callable[..., None]:
        """A hook that says what the step does from here on."""
        return lambda *_: setattr(self, "part", part)


def build(path: str, mode: FakeTensorMode) -> tuple[Config, BaseModel]:
    """A config and its model, which has predicted once on the device."""
    from medseg_kd.configuration import read_config
    from medseg_kd.registry import MODELS

    cfg = read_config(path)
    cfg.model.pop("teacher_ckpt", None)
    as_it_is = dict.fromkeys(("normal_", "uniform_", "erfinv_"), lambda weight, *_, **__: weight)
    with patch.multiple(torch.Tensor, **as_it_is):  # no numbers are drawn for weights that will hold none
        model = MODELS.build(cfg.model)
    teachers = [teacher.model for teacher in getattr(model, "teachers", ()) if not teacher.is_stored]
    with mode:
        model.to("gpu:0")
        for each in (model, *teachers):  # they keep what depends on the size alone
            each.eval().val_step({"inputs": [torch.zeros(3, 1, SIZE, SIZE)], "labels": [None], "meta": [{}]})
    return cfg, model


def step(cfg: Config, model: BaseModel, mode: FakeTensorMode, precision: torch.dtype) -> dict[str, Any]:
    """A training step of a config's model."""
    observer = Observer()
    model.train()
    for teacher in getattr(model, "teachers", ()):
        teacher._dtype, teacher._is_ready = precision, True  # its weights make no difference to fake tensors
        for module in teacher.model.modules():
            if isinstance(module, StdConv2d):
                with mode:
                    module.fix(precision)
            elif type(module) in CAST:
                for name, weight in module.named_parameters(recurse=False):
                    setattr(module, name, torch.nn.Parameter(weight.to(precision), requires_grad=False))
        running = getattr(teacher.model, "network", teacher.model)
        running.register_forward_pre_hook(observer.during("teacher"))
        running.register_forward_hook(observer.during("losses"))
    student = getattr(model, "student", model)
    running = getattr(student, "network", student)
    running.register_forward_pre_hook(observer.during("student"))
    running.register_forward_hook(observer.during("losses"))
    autocast = nullcontext() if precision == torch.float32 else torch.autocast("gpu", precision)
    own = {each.untyped_storage()._cdata for each in (*model.parameters(), *model.buffers())}
    with mode, observer:
        optimizer = build_optim_wrapper(model, with_fused_optimizer(cfg.optim_wrapper, torch.device("cuda")))
        observer.waits.clear()
        for flip in (0.0, 1.0):  # free rotation, right angles
            augmentation = model.data_preprocessor.augmentation
            if augmentation is not None:
                augmentation.flip_prob = flip
            batch = {
                "inputs": torch.zeros(2, 1, SIZE, SIZE),
                "labels": torch.zeros(2, SIZE, SIZE, dtype=torch.uint8),
                "meta": [{}, {}],
            }
            if any(teacher.is_stored for teacher in getattr(model, "teachers", ())):
                batch["soft"] = torch.zeros(2, model.student.num_classes, SIZE, SIZE, dtype=torch.float16)
            observer.launches.clear()
            with autocast:
                data = model.data_preprocessor(batch, True)
            assert data["inputs"].device.type == data["labels"].device.type == "gpu"
        observer.part = "losses"
        with autocast, torch.autograd.graph.saved_tensors_hooks(observer.keep, lambda tensor: tensor):
            losses = model(**data, mode="loss")
            total, log = model.parse_losses(losses)
        assert all(value.device.type == "gpu" and value.dtype == torch.float32 for value in log.values())
        observer.part = "backward"
        optimizer.backward(total)
        observer.part = "state"  # which the first step makes
        optimizer.step()
        observer.part = "optimizer"
        optimizer.step()
        optimizer.zero_grad()
    del observer.launches["state"]
    return {
        "waits": list(dict.fromkeys(observer.waits)),
        "dtypes": {whose: sorted(dtypes) for whose, dtypes in observer.dtypes.items()},
        "preprocessing": sorted(observer.preprocessing),
        "launches": dict(observer.launches),
        "saved": sum(storage.nbytes() for key, storage in observer.saved.items() if key not in own),
    }


def saved_when_checkpointed(model: BaseModel, mode: FakeTensorMode) -> int:
    """Bytes that a step in bf16 keeps, with what the checkpointed modules were given; the model is changed."""
    observer = Observer()
    own = {each.untyped_storage()._cdata for each in (*model.parameters(), *model.buffers())}

    def keep_inputs(module: torch.nn.Module, given: Any) -> None:
        for tensor in tree_leaves(given):
            if isinstance(tensor, torch.Tensor):
                observer.keep(tensor)

    names = [name for name, _ in model.train().named_modules() if re.fullmatch(STAGES, name)]
    checkpoint_activations(model, names)
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(keep_inputs)
    with (
        mode,
        torch.autocast("gpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(observer.keep, lambda t: t),
    ):
        inputs = torch.zeros(2, 1, SIZE, SIZE).to("gpu:0")
        labels = torch.zeros(2, SIZE, SIZE, dtype=torch.uint8).to("gpu:0")
        losses = model(inputs, labels, mode="loss")
        assert all(value.requires_grad for value in losses.values())
    return sum(storage.nbytes() for key, storage in observer.saved.items() if key not in own)


def main() -> None:
    mode = set_up()
    for path in sys.argv[1:]:
        cfg, model = build(path, mode)
        for precision in (torch.float32, torch.bfloat16):
            found = step(cfg, model, mode, precision)
            if precision == torch.bfloat16 and not (found["waits"] or hasattr(model, "teachers")):
                found["checkpointed"] = saved_when_checkpointed(model, mode)
            print(json.dumps({"config": path, "precision": str(precision), **found}), flush=True)


if __name__ == "__main__":
    main()
