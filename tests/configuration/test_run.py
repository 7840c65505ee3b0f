"""A runner from a config in a notebook is the one that train.py makes."""

import shutil

import pytest
import torch
from mmengine.config import Config

from medseg_kd.cli import train
from medseg_kd.configuration import complete_run, load_run
from medseg_kd.datasets.spec import parts_of_config
from medseg_kd.engine import Runner
from medseg_kd.errors import UserError
from tests.cli.experiment_runs import write_config


@pytest.fixture
def cfg(tmp_path, monkeypatch, phantom) -> Config:
    """A config of the user's own, read as in a notebook; the working directory is its folder."""
    write_config(tmp_path, "mine", 8)
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile("mine.py")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        cfg[name].dataset.data_root = str(phantom)
    return cfg


def test_cases_are_held_out_and_the_run_folder_has_its_name(cfg, tmp_path):
    cfg.val_cases = ["case0002"]
    cfg.train_dataloader.dataset.exclude_cases = ["case0001"]
    cfg.train_cfg.val_interval = 2
    cfg.train_cfg.val_begin = 1
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert (tmp_path / "work_dirs/mine/iter_2.pth").is_file()
    trained, validated = (loader.dataset for loader in (runner.train_dataloader, runner.val_dataloader))
    assert set(trained.case_names) == {"case0003"}
    assert validated.case_names == ["case0002"]
    assert "work_dir" not in cfg and trained.data_root == validated.data_root


def test_the_weights_are_those_of_train_py(cfg, phantom, tmp_path):
    with (tmp_path / "mine.py").open("a") as file:
        file.write('val_cases = ["case0002"]\n')
    train.main(["mine.py", "--data-root", str(phantom), "--work-dir", "command"])
    cfg.val_cases = ["case0002"]
    Runner.from_cfg(cfg).train()
    command, notebook = (
        torch.load(tmp_path / run / "iter_2.pth", weights_only=True)["state_dict"]
        for run in ("command", "work_dirs/mine")
    )
    assert command.keys() == notebook.keys()
    assert all(torch.equal(command[key], notebook[key]) for key in command)


def test_completing_twice_is_completing_once(cfg):
    cfg.val_cases = ["case0002"]
    complete_run(cfg)
    once = cfg.pretty_text
    complete_run(cfg)
    assert cfg.pretty_text == once


def test_channels_keep_their_order_in_a_written_config(cfg, tmp_path):
    """A written dict is sorted, and CT before T2 would be another data set."""
    channels = dict(T2="ZScore", CT=dict(type="Window", low=0.0, high=1.0))
    train, test = cfg.train_dataloader, cfg.test_dataloader
    inner = dict(type="SliceDataset", data_root="data", spec=dict(channels=channels))
    train.dataset = dict(type="ConcatDataset", datasets=[inner])
    test.dataset.spec = dict(channels=channels)
    complete_run(cfg)
    cfg.dump(tmp_path / "written.py")
    written = Config.fromfile(tmp_path / "written.py")
    for dataset in (written.train_dataloader.dataset.datasets[0], written.test_dataloader.dataset):
        assert [channel.name for channel in parts_of_config(dataset.spec, "spec")["channels"]] == ["T2", "CT"]


def test_what_mmengine_notices_late_is_refused(cfg):
    cfg.optim_wrapper.optimizer.type = "AdmW"
    with pytest.raises(UserError, match="mine.py: type='AdmW' is not known as optimizer; did you mean AdamW"):
        Runner.from_cfg(cfg)


def test_a_teacher_is_named_before_anything_is_built(cfg, phantom, tmp_path):
    shutil.copy(tmp_path / "mine.py", tmp_path / "teacher.py")
    cfg.model = dict(
        type="SingleTeacherDistill",
        architecture=cfg.model,
        teacher=cfg.model,
        teacher_ckpt="work_dirs/teacher",
        distiller=dict(type="KD"),
    )
    with pytest.raises(UserError, match="work_dirs/teacher"):
        Runner.from_cfg(cfg)


def test_a_config_without_a_name():
    with pytest.raises(UserError, match="set work_dir"):
        complete_run(Config({"model": {}}))


SLICES = 'dict(type="SliceDataset", data_root="{}")'
WRAPPED = {
    "repeat": f'dict(type="RepeatDataset", times=2, dataset={SLICES.format("a")})',
    "concat": f'dict(type="ConcatDataset", datasets=[{SLICES.format("a")}, {SLICES.format("a")}])',
    "folders": f'dict(type="ConcatDataset", datasets=[{SLICES.format("a")}, {SLICES.format("b")}])',
}


def _wrapped(tmp_path, wrapper, more=""):
    with (tmp_path / "mine.py").open("a") as file:
        file.write(f'train_dataloader["dataset"] = {WRAPPED[wrapper]}\n{more}')
    return "mine.py"


@pytest.mark.parametrize("wrapper", ["repeat", "concat"])
def test_the_data_folder_of_wrapped_data_sets(cfg, tmp_path, wrapper):
    dataset = load_run(_wrapped(tmp_path, wrapper), data_root="other").train_dataloader.dataset
    assert "data_root" not in dataset
    assert all(inner.data_root == "other" for inner in dataset.get("datasets", [dataset.get("dataset")]))


def test_several_data_folders_are_not_replaced_by_one(cfg, tmp_path):
    with pytest.raises(
        UserError, match=r"--data-root other would take the place of several .*: a, b. .*datasets.0.data"
    ):
        load_run(_wrapped(tmp_path, "folders"), data_root="other")


def test_cases_of_a_wrapped_data_set_are_held_out(cfg, tmp_path):
    held = load_run(_wrapped(tmp_path, "repeat", 'val_cases = ["case0002"]\n'))
    assert held.train_dataloader.dataset.dataset.exclude_cases == ["case0002"]
    assert held.val_dataloader.dataset.cases == ["case0002"] and held.val_dataloader.dataset.split == "train"


def test_cases_of_several_data_sets_are_not_guessed(cfg, tmp_path):
    with pytest.raises(UserError, match="val_cases does not say in which of 2 training data sets"):
        load_run(_wrapped(tmp_path, "concat", 'val_cases = ["case0002"]\n'))


def test_keys_that_a_config_lacks_may_be_added(cfg):
    options = {"visualizer.type": "SegLocalVisualizer", "auto_scale_lr.enable": True, "find_unused_parameters": True}
    added = load_run("mine.py", options)
    assert added.visualizer == dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
    assert added.auto_scale_lr.enable and added.find_unused_parameters
    with pytest.raises(UserError, match="--cfg-options visualizer.typ: mine.py: a part has no type: visualizer is"):
        load_run("mine.py", {"visualizer.typ": "SegLocalVisualizer"})


def test_a_variable_that_looks_like_a_key_is_not_written(cfg, tmp_path):
    """In the config of the run nothing uses it any more, so it would be taken for a misspelt key."""
    with (tmp_path / "mine.py").open("a") as file:
        file.write("val_case = 'case0002'\nval_cases = [val_case]\n")
    cfg = load_run("mine.py")
    cfg.dump(tmp_path / "written.py")
    assert "val_case" not in Config.fromfile("written.py") and cfg.val_cases == ["case0002"]
    load_run("written.py")


def test_a_single_name_is_a_list_of_one(cfg):
    cfg.update(val_cases="case0002", custom_imports=dict(imports="json"))
    complete_run(cfg)
    assert cfg.val_dataloader.dataset.cases == cfg.train_dataloader.dataset.exclude_cases == ["case0002"]
    assert cfg.custom_imports.imports == ["medseg_kd.engine", "json"]


def test_a_config_without_a_model():
    with pytest.raises(UserError, match=r"the config has no model: .*model=dict\(type=...\)"):
        complete_run(Config({"work_dir": "run"}))
