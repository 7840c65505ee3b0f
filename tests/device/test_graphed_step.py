"""Training steps on a real GPU: one CUDA graph or kernel by kernel, the numbers are the same."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from medseg_kd.configuration import load_run
from medseg_kd.datasets.phantom import write_phantom
from medseg_kd.engine import Runner
from tests.device.read_back import ReadBack
from tests.device.test_fake_gpu import STEPPED

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
ROOT = Path(__file__).parents[2]
STEPS = 6
_RUNS = itertools.count()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, cases=2, test_cases=1, slices=4, size=64)
    return str(folder)


def run(config: str, data: str, work_dir: Path, **options: Any) -> Runner:
    """A run of some steps that leave the weights where they are, so that rounding does not grow from step to step."""
    few = {
        "train_cfg.max_iters": STEPS,
        "train_cfg.val_interval": STEPS + 1,
        "default_hooks.checkpoint.interval": STEPS + 1,
        "default_hooks.logger.interval": 3,
        "train_dataloader.num_workers": 0,
        "env_cfg.cudnn_benchmark": False,
        "env_cfg.tf32": False,
        "param_scheduler": [],
    }
    cfg = load_run(ROOT / config, {}, data_root=data, work_dir=str(work_dir))
    cfg.merge_from_dict(few)
    kind = options.pop("wrapper", "OptimWrapper")
    cfg.experiment_name = f"steps_{next(_RUNS)}"  # MMEngine tells runs apart by name and second
    cfg.optim_wrapper = dict(type=kind, optimizer=dict(type="SGD", lr=1e-12, momentum=0.5))
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.update(options)
    if "teacher_ckpt" in cfg.model:
        cfg.model.teacher_ckpt = None
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def losses(runner: Runner) -> list[float]:
    return [float(value) for value in runner.message_hub.get_scalar("train/loss").data[0]]


def momentum(runner: Runner) -> torch.Tensor:
    """Sums of the last gradients, of all parameters."""
    state = runner.optim_wrapper.optimizer.state
    return torch.cat([state[each]["momentum_buffer"].flatten() for each in runner.model.parameters() if each in state])


@pytest.mark.parametrize("wrapper", ["OptimWrapper", "BFloat16OptimWrapper"], ids=["float32", "bf16"])
@pytest.mark.parametrize("config", STEPPED)
def test_a_graph_computes_what_its_kernels_do(config: str, wrapper: str, data: str, tmp_path: Path) -> None:
    alone = run(config, data, tmp_path / "kernels", cuda_graph=False, wrapper=wrapper)
    graphed = run(config, data, tmp_path / "graph", cuda_graph=True, wrapper=wrapper)
    assert graphed.model.train_step._graph is not None
    loose = 50 if wrapper == "BFloat16OptimWrapper" else 1
    assert len(losses(graphed)) == STEPS
    assert losses(graphed) == pytest.approx(losses(alone), rel=1e-3 * loose**0.5)
    expected = momentum(alone)
    assert (momentum(graphed) - expected).norm() < 1e-2 * loose**0.5 * expected.norm()


def test_a_loss_that_waits_goes_on_without_a_graph(data: str, tmp_path: Path) -> None:
    config = "configs/medical_seg/swin_unetr_base_40k_synapse.py"  # it draws random numbers too
    cfg = load_run(ROOT / config, {}, data_root=data)
    runner = run(config, data, tmp_path, cuda_graph=True, model={**cfg.model, "losses": [dict(type=ReadBack)]})
    assert runner.model.train_step.is_off
    assert len(losses(runner)) == STEPS
    assert "loss.item()" in (tmp_path / runner.timestamp / f"{runner.timestamp}.log").read_text()


def test_slices_stay_on_the_gpu(data: str, tmp_path: Path) -> None:
    runner = run(STEPPED[0], data, tmp_path)
    batch = next(iter(runner.train_dataloader))
    assert batch["inputs"].is_cuda
    assert batch["labels"].is_cuda
