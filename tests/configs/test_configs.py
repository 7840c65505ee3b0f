"""Every config parses, dumps, builds, and says only what is its own."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch.optim import AdamW

from medseg_kd.distill import MultiTeacherDistill, SingleTeacherDistill
from medseg_kd.distill.pair_config import find_method, pair_config
from medseg_kd.errors import UserError
from medseg_kd.registry import DATASETS, MODELS
from tests.distill.pairs import batch
from tests.models.network_contract import without_values

CONFIGS = Path(__file__).parents[2] / "configs"
RUNNABLE = sorted(path for path in CONFIGS.rglob("*.py") if "_base_" not in path.parts)
DISTILLATIONS = sorted((CONFIGS / "distill").rglob("*.py"))
PAIRS = [path for path in DISTILLATIONS if "MultiTeacherDistill" not in path.read_text(encoding="utf-8")]
SEED = (
    "fcn/fcn_r18_d8_40k_synapse.py",
    "fcn/fcn_r50_d8_40k_synapse.py",
    "unet/unet_r18v1c_d8_40k_synapse.py",
    "unet/unet_r50_s4_d8_40k_synapse.py",
    "attn_unet/attn_ma_unet_r18v1c_synapse_40k.py",
    "medical_seg/mednext_40k_synapse.py",
    "medical_seg/missformer_40k_synapse.py",
    "medical_seg/transunet_40k_synapse.py",
    "medical_seg/swin_unetr_base_40k_synapse.py",
)


@pytest.fixture(params=RUNNABLE, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_the_seed_paths_are_there():
    assert [name for name in SEED if not (CONFIGS / name).is_file()] == []


@pytest.fixture
def cfg(path: Path) -> Config:
    return completed(Config.fromfile(path))


@pytest.fixture
def model(cfg: Config) -> BaseModel:
    return without_values(cfg.model)


def completed(cfg: Config) -> Config:
    """A config with the number of classes that a runner takes from the data."""
    for part in (cfg.model, cfg.model.get("architecture"), cfg.model.get("teacher")):
        if part and "num_classes" in part and part.num_classes is None:
            part.num_classes = 2
    return cfg


def shapes(model: BaseModel) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def test_it_survives_a_dump(cfg, model, tmp_path):
    cfg.dump(tmp_path / "dumped.py")
    with DefaultScope.overwrite_default_scope("medseg_kd"):
        again = without_values(Config.fromfile(tmp_path / "dumped.py").model)
    assert shapes(again) == shapes(model)


def test_the_model_builds_and_gives_full_resolution_logits(cfg, model):
    metainfo = cfg.test_dataloader.dataset.get("metainfo", dict(classes=range(2)))
    with torch.device("meta"):
        logits = model.eval()(torch.empty(1, 1, 64, 48), mode="tensor")
    assert logits.shape == (1, len(metainfo["classes"]), 64, 48)


@pytest.mark.parametrize("name", SEED)
def test_any_slice_size_trains_and_is_predicted(name):
    """At its full width."""
    model = MODELS.build(Config.fromfile(CONFIGS / name).model)
    images, samples = batch((75, 58), n=1)
    losses = model.train().loss(images, samples)
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.isfinite() for value in losses.values())
    assert model.eval().predict_volume(images).shape == (1, 75, 58)


def test_the_data_sets_build(path, cfg, phantom):
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        dataset = {**cfg[name].dataset, "data_root": str(phantom)}
        if not path.stem.endswith(("synapse", "phantom", "folder", "synapse_40k")):  # other classes than the phantom's
            with pytest.raises(UserError, match="differ in classes|holds no val split"):
                DATASETS.build(dataset)
        else:
            assert len(DATASETS.build(dataset)) > 0


def test_the_recipe_of_the_seed():
    for name in (name for name in SEED if "swin_unetr" not in name):
        cfg = Config.fromfile(CONFIGS / name)
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.type.__name__, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
            "SGD",
            0.01,
            0.9,
            5e-4,
        )
        schedule = cfg.param_scheduler[0]
        assert (schedule.power, schedule.eta_min, schedule.end, schedule.by_epoch) == (0.9, 1e-4, 40000, False)
        assert (cfg.train_cfg.max_iters, cfg.train_dataloader.batch_size) == (40000, 2)


def test_swin_unetr_warms_up_and_falls_along_a_cosine():
    cfg = Config.fromfile(CONFIGS / "medical_seg/swin_unetr_base_40k_synapse.py")
    optimizer = AdamW([torch.zeros(1, requires_grad=True)], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build({**told, "optimizer": optimizer}) for told in cfg.param_scheduler]
    optimizer.step()
    rates = []
    for _ in range(cfg.train_cfg.max_iters):
        rates.append(optimizer.param_groups[0]["lr"])
        for scheduler in schedulers:
            scheduler.step()
    assert cfg.optim_wrapper.optimizer.weight_decay == 1e-5
    assert [rates[i] for i in (0, 250, 500, 20250)] == pytest.approx([4e-7, 1e-4, 2e-4, 1e-4], rel=0.01)
    assert rates.index(max(rates)) in (499, 500)
    assert rates[-1] < 1e-11


@pytest.mark.parametrize("pair", DISTILLATIONS, ids=lambda path: path.name)
def test_a_distillation_is_short_and_names_no_module_and_no_channel(pair):
    text = pair.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 15
    assert not re.search(r"channels|source|layer\d|recorders|connectors", text)
    model = without_values(completed(Config.fromfile(pair)).model)
    assert isinstance(model, SingleTeacherDistill if pair in PAIRS else MultiTeacherDistill)
    stems = [Path(name.replace(".", "/")).name for name in re.findall(r"from ([\w.]+) import model as", text)]
    assert [teacher.ckpt for teacher in model.teachers] == [f"work_dirs/{stem}" for stem in stems]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda path: path.name)
def test_a_pair_is_what_the_tool_writes(pair):
    text = pair.read_text(encoding="utf-8")
    method = find_method(pair.stem.split("_")[0])
    assert method.stem == pair.parent.name.lower()
    teacher, student = _teacher_config(text), _config(text, r"from \.\.\.((?!_base_)[\w.]+) import \*")
    assert pair_config(method, teacher, student, pair, f"work_dirs/{teacher.stem}") == text


def _config(text: str, line: str) -> Path:
    """The config that a line of a pair imports."""
    return CONFIGS / (re.search(line, text)[1].replace(".", "/") + ".py")


def _teacher_config(text: str) -> Path:
    """The config that a pair takes its teacher from."""
    return _config(text, r"from \.\.\.([\w.]+) import model as teacher")


def test_a_text_style_config_builds_the_same_network(tmp_path):
    text = tmp_path / "text_style.py"
    text.write_text(
        "default_scope = 'medseg_kd'\n"
        "model = dict(type='Segmentor', num_classes=9, network=dict(type='UNet', backbone=dict(type='ResNetV1c', "
        "depth=18, in_channels=1, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), contract_dilation=True, "
        "norm_cfg=dict(type='BN'))), losses=[dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True), "
        "dict(type='SoftDiceLoss')], output_weights=(4 / 7, 1 / 7))\n"
    )
    ours, theirs = (without_values(Config.fromfile(file).model) for file in (CONFIGS / SEED[2], text))
    assert shapes(ours) == shapes(theirs)
