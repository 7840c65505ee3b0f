"""The runner: exact resume, plain checkpoints, strict loading."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset, pseudo_collate

from medseg_kd.datasets import SliceDataset
from medseg_kd.distill import KD, SingleTeacherDistill
from medseg_kd.engine import BFloat16OptimWrapper, Runner, TrainLogProcessor
from medseg_kd.errors import UserError
from tests.engine.tiny import tiny_config


def _equal(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other


@pytest.fixture(scope="module")
def run(phantom, tmp_path_factory):
    """A run of four iterations with a checkpoint at the second."""
    folder = tmp_path_factory.mktemp("run")
    Runner.from_cfg(tiny_config(phantom, folder)).train()
    return folder


def test_a_checkpoint_opens_without_an_allow_list(run):
    checkpoint = torch.load(run / "iter_4.pth", weights_only=True)
    assert set(checkpoint) == {"meta", "state_dict", "message_hub", "optimizer", "param_schedulers"}
    assert checkpoint["meta"]["iter"] == 4
    assert all(key.startswith("network.") for key in checkpoint["state_dict"])
    assert len(checkpoint["message_hub"]["log_scalars"]["train/loss"]["log"]) == 4


@pytest.mark.parametrize(("workers", "cache"), [(0, "auto"), (0, None), (2, None)])
def test_a_resumed_run_equals_the_run_that_was_never_stopped(run, phantom, tmp_path, workers, cache):
    changes = {"train_dataloader.num_workers": workers, "train_dataloader.dataset.cache": cache}
    Runner.from_cfg(tiny_config(phantom, tmp_path, max_iters=2, **changes)).train()
    cfg = tiny_config(phantom, tmp_path, max_iters=4, **changes)
    cfg.update(resume=True, load_from=str(tmp_path / "iter_2.pth"))
    Runner.from_cfg(cfg).train()
    whole, resumed = (torch.load(folder / "iter_4.pth", weights_only=True) for folder in (run, tmp_path))
    assert _equal(whole["state_dict"], resumed["state_dict"])
    assert _equal(whole["optimizer"], resumed["optimizer"])
    losses = [each["message_hub"]["log_scalars"]["train/loss"]["log"] for each in (whole, resumed)]
    assert losses[0] == losses[1]


def test_neither_cache_nor_loading_processes_change_a_loss(phantom, tmp_path):
    found = []
    for workers, cache in ((0, "auto"), (0, None), (2, None)):
        folder = tmp_path / f"{workers} {cache}"
        changes = {"train_dataloader.num_workers": workers, "train_dataloader.dataset.cache": cache}
        runner = Runner.from_cfg(tiny_config(phantom, folder, max_iters=20, **changes))
        assert runner.model.data_preprocessor.augmentation is not None
        runner.train()
        found.append(list(runner.message_hub.get_scalar("train/loss").data[0]))
    assert len(set(found[0])) == 20
    assert found == found[:1] * 3


def test_the_seed_decides_the_run(run, phantom, tmp_path):
    Runner.from_cfg(tiny_config(phantom, tmp_path / "same", max_iters=2)).train()
    Runner.from_cfg(tiny_config(phantom, tmp_path / "other", max_iters=2, **{"randomness.seed": 1})).train()
    first, same, other = (
        torch.load(folder / "iter_2.pth", weights_only=True)["state_dict"]
        for folder in (run, tmp_path / "same", tmp_path / "other")
    )
    assert _equal(first, same)
    assert not _equal(first, other)


def test_weights_of_another_network_are_refused(run, phantom, tmp_path):
    cfg = tiny_config(phantom, tmp_path, **{"model.network.width": 8})
    cfg.load_from = str(run / "iter_4.pth")
    with pytest.raises(UserError, match=r"of another shape: network.stem.0.weight"):
        Runner.from_cfg(cfg).test()


def test_a_finished_run_stays_finished(run, phantom):
    before = (run / "iter_4.pth").read_bytes()
    cfg = tiny_config(phantom, run)
    cfg.update(resume=True, load_from=str(run / "iter_4.pth"))
    Runner.from_cfg(cfg).train()
    assert (run / "iter_4.pth").read_bytes() == before
    assert "nothing is left to train" in max(run.rglob("*.log")).read_text(encoding="utf-8")


def test_weights_alone_cannot_be_resumed(run, phantom, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({"state_dict": torch.load(run / "iter_4.pth", weights_only=True)["state_dict"]}, weights)
    cfg = tiny_config(phantom, tmp_path)
    cfg.update(resume=True, load_from=str(weights))
    with pytest.raises(UserError, match="no optimizer state"):
        Runner.from_cfg(cfg).train()


def test_bf16_trains_on_the_cpu_in_bf16(phantom, tmp_path):
    cfg = tiny_config(phantom, tmp_path, max_iters=2)
    cfg.optim_wrapper.type = BFloat16OptimWrapper
    runner = Runner.from_cfg(cfg)
    seen = []
    runner.model.network.head.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    runner.train()
    assert seen[:2] == [torch.bfloat16] * 2
    weights = torch.load(tmp_path / "iter_2.pth", weights_only=True)["state_dict"]
    assert all(value.dtype != torch.bfloat16 for value in weights.values())


def test_the_log_shows_what_a_user_watches(run):
    log = min(run.rglob("*.log")).read_text(encoding="utf-8")
    line = next(line for line in log.splitlines() if "[4/4]" in line)
    for part in ("loss", "loss_ce", "loss_dice", "lr", "s/iter", "data wait", "memory", "eta"):
        assert part in line
    assert "Could not import" not in log
    assert "max_iters=4" in next(run.glob("*.py")).read_text(encoding="utf-8")


def test_a_test_leaves_the_runs_config_alone(phantom, tmp_path):
    """Testing a distillation tests its student; the run folder still holds what trained it."""
    cfg = tiny_config(phantom, tmp_path, max_iters=1)
    student = cfg.model
    cfg.model = dict(type=SingleTeacherDistill, architecture=student, teacher=student, distiller=dict(type=KD))
    Runner.from_cfg(cfg).train()
    (dumped,) = tmp_path.glob("*.py")
    before = dumped.read_text(encoding="utf-8")
    assert "SingleTeacherDistill" in before
    cfg.model = student
    cfg.load_from = str(tmp_path / "iter_1.pth")
    Runner.from_cfg(cfg).test()
    assert dumped.read_text(encoding="utf-8") == before


def test_the_checkpoint_says_what_an_image_is(run, phantom):
    spec = SliceDataset(str(phantom), spec=dict(classes=tiny_config(phantom, run).metainfo.classes)).spec
    assert torch.load(run / "iter_4.pth", weights_only=True)["meta"]["spec"] == spec.to_json()


def test_a_model_of_mmsegmentation_trains_and_tests(phantom, tmp_path):
    cfg = tiny_config(phantom, tmp_path, max_iters=1)
    backbone = dict(type="mmseg.ResNetV1c", depth=18, in_channels=1, base_channels=4, stem_channels=4)
    head = dict(type="mmseg.FCNHead", num_classes=9, in_channels=32, channels=8, in_index=3)
    cfg.model = dict(type="mmseg.EncoderDecoder", backbone=backbone, decode_head=head)
    Runner.from_cfg(cfg).train()
    cfg.load_from = str(tmp_path / "iter_1.pth")
    assert "mDice" in Runner.from_cfg(cfg).test()


@pytest.mark.parametrize("wrapper", [None, "concat", "repeat", "part"])
def test_batches_are_collated_as_the_data_set_does(phantom, tmp_path, wrapper):
    loader = dict(tiny_config(phantom, tmp_path).train_dataloader)
    if wrapper == "concat":
        loader["dataset"] = dict(type=ConcatDataset, datasets=[loader["dataset"]] * 2)
    elif wrapper == "repeat":
        loader["dataset"] = dict(type=RepeatDataset, dataset=loader["dataset"], times=2)
    elif wrapper == "part":
        loader["num_batch_per_epoch"] = 2
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    assert batch["inputs"].shape == (2, 1, 64, 64) and batch["labels"].dtype == torch.uint8


def test_a_config_may_name_how_batches_are_collated(phantom, tmp_path):
    loader = {**tiny_config(phantom, tmp_path).train_dataloader, "collate_fn": dict(type=pseudo_collate)}
    assert isinstance(next(iter(Runner.build_dataloader(loader, seed=0)))["inputs"], list)
    items = [dict(index=index) for index in range(4)]
    loader.update(dataset=items, collate_fn=dict(type=pseudo_collate))
    assert next(iter(Runner.build_dataloader(loader, seed=0))).keys() == {"index"}


def test_the_log_shows_the_peak_of_the_gpus_memory(run, phantom, tmp_path, monkeypatch):
    """MMEngine resets the peak when it reads it."""
    peaks = iter([1234, 7])
    monkeypatch.setattr(TrainLogProcessor, "_get_max_memory", lambda self, runner: next(peaks))
    monkeypatch.setattr("mmengine.runner.log_processor.is_cuda_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    scalars = {f"train/{name}": 1.0 for name in ("loss", "time", "data_time", "lr")}
    hub = SimpleNamespace(
        log_scalars={name: SimpleNamespace(mean=lambda *_: 1.0, current=lambda: 1.0) for name in scalars},
        runtime_info={"eta": 1},
        get_info=lambda name: 1,
    )
    loader = SimpleNamespace(batch_size=3)
    model = SimpleNamespace(data_preprocessor=SimpleNamespace(pixels=2_000_000))
    told = dict(message_hub=hub, train_dataloader=loader, bare_model=model)
    runner = SimpleNamespace(iter=0, max_iters=4, _train_loop=None, **told)
    tag, line = TrainLogProcessor().get_log_after_iter(runner, 0, "train")
    assert tag["memory"] == 1234 and "memory 1234 MB" in line and "1000.0 ms/iter (3.0 images/s, 2.00 Mpx/s)" in line


@pytest.mark.parametrize(("device", "kind"), [("meta", torch.nn.SyncBatchNorm), ("cpu", torch.nn.BatchNorm2d)])
def test_norms_are_synchronised_where_that_exists(device, kind, monkeypatch):
    """On any device but the CPU, before the weights are loaded; the parameters stay those of an optimizer."""
    monkeypatch.setattr("medseg_kd.engine.device_runner.get_device", lambda: device)
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(2)).to(device)
    weight = model[0].weight
    runner = SimpleNamespace(distributed=True, cfg={"sync_bn": "torch"})
    moved = Runner.wrap_model(runner, None, model)
    assert type(moved[0]) is kind and moved[0].weight is weight


def test_a_validation_alone_saves_nothing(phantom, tmp_path):
    cfg = tiny_config(phantom, tmp_path / "run", max_iters=1)
    Runner.from_cfg(cfg).train()
    cfg.load_from, cfg.work_dir = str(tmp_path / "run/iter_1.pth"), str(tmp_path / "other")
    cfg.experiment_name += "_validated"  # MMEngine keeps the best score of a run by its name
    runner = Runner.from_cfg(cfg)
    assert "mDice" in runner.val()
    assert not list((tmp_path / "other").rglob("*.pth"))
    runner.train()
    assert (tmp_path / "other/iter_1.pth").is_file()


def test_a_checkpoint_without_regions_is_resumed_without_a_warning(run, phantom, tmp_path):
    """Versions that had none wrote no such key, and MMEngine compares what was written."""
    assert "regions" not in torch.load(run / "iter_4.pth", weights_only=True)["meta"]["dataset_meta"]


def test_a_schedule_that_holds_a_function_is_saved_and_resumed(phantom, tmp_path):
    schedule = dict(type="OneCycleLR", eta_max=0.1, total_steps=4, end=4, by_epoch=False)
    for name, changes in (("run", {}), ("cut", {"max_iters": 2}), ("cut", {"resume": True})):
        Runner.from_cfg(tiny_config(phantom, tmp_path / name, param_scheduler=[schedule], **changes)).train()
    whole, resumed = (torch.load(tmp_path / name / "iter_4.pth", weights_only=True) for name in ("run", "cut"))
    assert _equal(whole["state_dict"], resumed["state_dict"])
    assert _equal(whole["param_schedulers"], resumed["param_schedulers"])


def test_a_log_that_cannot_be_written_names_the_run_folder(phantom, tmp_path, monkeypatch):
    runner = Runner.from_cfg(tiny_config(phantom, tmp_path / "run"))
    monkeypatch.setattr(runner, "_init_model_weights", lambda: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output error: .*run"):
        runner.train()
    assert not (tmp_path / "run").exists()
