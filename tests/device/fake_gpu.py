"""Training steps on a GPU that is not there, in a process of its own: ``python -m tests.device.fake_gpu CONFIG...``.

Fake tensors on a device of their own hold no values and refuse to meet those of the CPU, as on a GPU. What the host
would wait for (a number read back, a copy that does not overlap) is listed, and so is the precision of what is
computed. Prints JSON: for each config and precision ``waits``, ``dtypes`` (of convolutions and matrix products, by
whose they are), and ``preprocessing`` (of what moves pixels).
"""

import json
import sys
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

ROOT = Path(__file__).parents[2]
SIZE = 64
LOWER = "conv2d conv_transpose2d linear matmul mm bmm addmm baddbmm scaled_dot_product_attention"
UPPER = (
    "softmax.int log_softmax.int layer_norm group_norm instance_norm nll_loss mse_loss norm.Scalar pow.Tensor_Scalar"
)
WIDEST = "cat stack"
"""What PyTorch's autocast on CUDA runs in 16 bits, in 32, and in the widest of its arguments: as far as we use it."""
_KEPT: list[torch.library.Library] = []
"""What they registered goes with them."""
_in_attention = False
aten = torch.ops.aten
COMPUTED = (aten.convolution, aten.mm, aten.bmm, aten.addmm)
MOVED = (aten.grid_sampler_2d, aten._upsample_bilinear2d_aa, aten.affine_grid_generator)


def set_up() -> FakeTensorMode:
    """A device ``gpu`` with autocast, on which modules move as fake tensors."""
    _DummyBackendModule.get_amp_supported_dtype = lambda self: [torch.bfloat16, torch.float16]
    _setup_privateuseone_for_python_backend("gpu")
    torch.autograd.set_multithreading_enabled(False)  # its threads for a device start when PyTorch is imported
    mode, move = FakeTensorMode(allow_non_fake_inputs=True), torch.nn.Module._apply
    torch.nn.Module._apply = lambda self, fn, recurse=True: move(
        self, lambda t: fn(t if isinstance(t, FakeTensor) else mode.from_tensor(t)), recurse
    )
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
            with torch._C._ExcludeDispatchKeyGuard(key), inside(name.startswith("scaled_dot_product")):
                return operator(*args, **kwargs)

        library.impl(operator, cast, "AutocastPrivateUse1")

    for names, choose in (
        (LOWER, lambda floats: torch.get_autocast_dtype("gpu")),
        (UPPER, lambda floats: torch.float32),
        (WIDEST, lambda floats: max((t.dtype for t in floats), key=lambda dtype: dtype.itemsize)),
    ):
        for name in names.split():
            policy(name, choose)
    return mode


@contextmanager
def inside(attention: bool) -> Iterator[None]:
    """Attention is one kernel on a GPU; here it falls into products of float32, which do not count."""
    global _in_attention
    before, _in_attention = _in_attention, _in_attention or attention
    yield
    _in_attention = before


class Observer(TorchDispatchMode):
    """Notes what the host would wait for, and in which precision the device computes."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.dtypes: dict[str, set[str]] = defaultdict(set)
        self.preprocessing: set[str] = set()
        self.whose = "student"
        self.training = True

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
        backward = torch._C._current_graph_task_id() != -1
        if packet in COMPUTED and self.training and not (backward or _in_attention):
            self.dtypes[self.whose] |= {str(t.dtype) for t in tensors if t.is_floating_point()}
        if packet in MOVED:
            self.preprocessing |= {str(t.dtype) for t in tensors if t.is_floating_point()}
        if reads:
            return 0.3 if args[0].is_floating_point() else 1
        return func(*args, **kwargs)


def build(path: str, mode: FakeTensorMode) -> tuple[Config, BaseModel]:
    """A config and its model, on the device."""
    from medseg_kd.configuration import read_config
    from medseg_kd.registry import MODELS

    cfg = read_config(path)
    cfg.model.pop("teacher_ckpt", None)
    model = MODELS.build(cfg.model)
    with mode:
        return cfg, model.to("gpu:0")


def steps(cfg: Config, model: BaseModel, mode: FakeTensorMode, precision: torch.dtype) -> dict[str, Any]:
    """Two training steps and a prediction of a config's model, at a small size."""
    observer = Observer()
    model.train()
    for teacher in getattr(model, "teachers", ()):
        teacher._is_ready = True  # its weights make no difference to fake tensors
        teacher.model.register_forward_pre_hook(lambda *_: setattr(observer, "whose", "teacher"))
        if hasattr(teacher.model, "network"):
            teacher.model.network.register_forward_pre_hook(lambda *_: setattr(observer, "whose", "teacher"))
    student = getattr(model, "student", model)
    student.register_forward_pre_hook(lambda *_: setattr(observer, "whose", "student"))
    autocast = nullcontext() if precision == torch.float32 else torch.autocast("gpu", precision)
    with mode, observer:
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
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
            with autocast:
                data = model.data_preprocessor(batch, True)
                assert data["inputs"].device.type == data["labels"].device.type == "gpu"
                losses = model(**data, mode="loss")
            total, log = model.parse_losses(losses)
            assert all(value.device.type == "gpu" and value.dtype == torch.float32 for value in log.values())
            optimizer.update_params(total)
        waits, observer.training = list(dict.fromkeys(observer.waits)), False
        model.eval().val_step({"inputs": [torch.zeros(3, 1, SIZE, SIZE)], "labels": [None], "meta": [{}]})
    return {
        "waits": waits,
        "dtypes": {whose: sorted(found) for whose, found in observer.dtypes.items()},
        "preprocessing": sorted(observer.preprocessing),
    }


def main() -> None:
    mode = set_up()
    for path in sys.argv[1:]:
        cfg, model = build(path, mode)
        for precision in (torch.float32, torch.bfloat16):
            found = steps(cfg, model, mode, precision)
            print(json.dumps({"config": path, "precision": str(precision), **found}), flush=True)


if __name__ == "__main__":
    main()
