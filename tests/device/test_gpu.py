"""Training steps on a real GPU, held against the CPU's; skipped where there is none (``pytest -m gpu``)."""

import copy

import pytest
import torch
from mmengine.model import BaseModel

from medseg_kd.distill import CWD, KD, ReviewKD, SingleTeacherDistill
from medseg_kd.engine import BFloat16OptimWrapper, NativeAmpOptimWrapper, Runner
from medseg_kd.models import FCN
from medseg_kd.registry import MODELS, OPTIM_WRAPPERS
from tests.distill.pairs import batch, segmentor
from tests.engine.tiny import tiny_config

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
METHODS = {"KD": {"type": KD}, "CWD": {"type": CWD}, "ReviewKD": {"type": ReviewKD, "mid_channel": 8}}


def build(method: str | None) -> BaseModel:
    """A segmentor, or one that a trained teacher would teach."""
    torch.manual_seed(0)
    student = segmentor(dropout_ratio=0.0)
    if method is None:
        return MODELS.build(student)
    return SingleTeacherDistill(student, MODELS.build(segmentor(FCN, width=8)), METHODS[method])


def step(model: BaseModel, wrapper: str, device: str) -> dict[str, float]:
    """Losses of one training step; the gradients stay with the model."""
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    optim_wrapper = OPTIM_WRAPPERS.build(dict(type=wrapper, optimizer=optimizer))
    images, labels = (tensor.to(device) for tensor in batch())
    with optim_wrapper.optim_context(model):
        losses = model(images, labels, mode="loss")
    total, log = model.parse_losses(losses)
    assert total.device.type == device and total.dtype == torch.float32
    optim_wrapper.backward(total)
    optim_wrapper.step()
    return {name: value.detach().item() for name, value in log.items()}


@pytest.mark.parametrize(("wrapper", "near"), [("OptimWrapper", 1e-2), ("NativeAmpOptimWrapper", 0.1)])
@pytest.mark.parametrize("method", [None, *METHODS])
def test_a_step_gives_the_losses_of_the_cpu(method: str | None, wrapper: str, near: float) -> None:
    """In float32 (convolutions in TF32), and in what the GPU has natively, which is bf16 on all that are current."""
    model = build(method)
    other = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    assert step(other, wrapper, "cuda") == pytest.approx(step(model, "OptimWrapper", "cpu"), rel=near)
    after = {key: value.cpu() for key, value in other.state_dict().items()}
    moved = [key for key, _ in other.named_parameters() if key in after and not torch.equal(after[key], before[key])]
    assert moved and all(value.isfinite().all() for value in after.values())
    for teacher in getattr(other, "teachers", ()):
        assert all(p.device.type == "cuda" and p.grad is None for p in teacher.model.parameters())


@pytest.mark.parametrize("wrapper", [None, NativeAmpOptimWrapper, BFloat16OptimWrapper])
def test_a_run_trains_validates_and_goes_on(wrapper: type | None, phantom, tmp_path) -> None:
    for iterations, resume in ((2, False), (4, True)):
        cfg = tiny_config(phantom, tmp_path, max_iters=iterations)
        if wrapper is not None:
            cfg.optim_wrapper.type = wrapper
        if resume:
            cfg.update(resume=True, load_from=str(tmp_path / "iter_2.pth"))
        runner = Runner.from_cfg(cfg)
        runner.train()
        assert next(runner.bare_model.parameters()).is_cuda
    checkpoint = torch.load(tmp_path / "iter_4.pth", weights_only=True)
    assert checkpoint["meta"]["iter"] == 4
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
