"""train.py and test.py as processes."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from tests.cli.commands import ROOT, SHORT, command, fail, start, succeed
from tests.configs.test_configs import SEED
from tests.engine.two_processes import free_port

STUDENT = "configs/fcn/fcn_r18_d8_40k_synapse.py"
NARROW = {
    "medical_seg/mednext": {"channels": 4, "block_counts": [1] * 9},
    "medical_seg/missformer": {"channels": [16, 32, 80, 128], "depths": [1, 1, 1, 1], "bridge_layers": 1},
    "medical_seg/swin_unetr": {"feature_size": 12},
    "medical_seg/transunet": {
        "width": 32,
        "depths": [1, 1, 1],
        "hidden_channels": 24,
        "num_layers": 1,
        "num_heads": 3,
        "mlp_channels": 40,
        "middle_channels": 16,
        "decoder_channels": [16, 8, 8, 8],
    },
}
"""Options of a network that make a small one of it; of the others it is their backbone that is narrow."""


def _options(*more):
    return ("--cfg-options", *SHORT, *more)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory as a user has it: the configs, no data, no runs."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "configs").symlink_to(ROOT / "configs")
    return folder


def _narrow(config):
    """Options that make the network of a seed config small."""
    stem = config.removesuffix("_40k_synapse.py").removesuffix("_base")
    network = NARROW.get(stem, {"backbone.base_channels": 8, "backbone.stem_channels": 8})
    return [f"model.network.{key}={value}".replace(" ", "") for key, value in network.items()]


@pytest.mark.parametrize("config", SEED)
def test_each_seed_config_trains_and_resumes(config, home, phantom, tmp_path):
    path, common = f"configs/{config}", ("--data-root", phantom, "--work-dir", tmp_path)
    narrow = _narrow(config)
    succeed("train.py", path, *common, *_options("train_cfg.max_iters=2", *narrow), cwd=home)
    assert torch.load(tmp_path / "iter_2.pth", weights_only=True)["meta"]["iter"] == 2
    log = succeed("train.py", path, *common, "--resume", *_options("train_cfg.max_iters=4", *narrow), cwd=home)
    assert "[3/4]" in log
    assert "[1/4]" not in log
    assert torch.load(tmp_path / "iter_4.pth", weights_only=True)["meta"]["iter"] == 4


def test_teacher_student_and_scores(home, phantom, tmp_path):
    """Train a teacher, distil it, test the student through both configs."""
    data = ("--data-root", phantom)
    succeed(
        "train.py",
        "configs/fcn/fcn_r50_d8_40k_synapse.py",
        *data,
        *_options("train_cfg.max_iters=2", "train_cfg.val_interval=2"),
        cwd=home,
    )
    pair = "configs/distill/cwd/cwd_fcn_r50_fcn_r18_40k_synapse.py"
    log = succeed("train.py", pair, *data, *_options("train_cfg.max_iters=2"), cwd=home)
    assert "distill.loss_cwd" in log
    assert "teacher (work_dirs/fcn_r50_d8_40k_synapse/iter_2.pth): Dice" in log

    run = home / "work_dirs/cwd_fcn_r50_fcn_r18_40k_synapse"
    log = succeed("test.py", pair, *data, *_options(), cwd=home)
    assert log.rstrip().splitlines()[-1].endswith(f"Report: {run / 'report.html'}")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "fcn_r50_d8_40k_synapse</td>" in page and "CWD" in page and "no pictures" not in page
    (tmp_path / "report.html").mkdir()  # so that it cannot be written
    checkpoint, folder = run / "iter_2.pth", ("--work-dir", tmp_path, "--save-predictions")
    log = succeed("test.py", STUDENT, checkpoint, *data, *folder, *_options(), cwd=home)
    assert f"testing {run / 'iter_2.pth'}" in log
    assert "liver" in log and "strict" in log
    assert "reading" in log and "predicting" in log and "scoring" in log and "saving" in log
    assert "2 prediction(s) are in" in log and "no report was written: " in log
    assert sorted(path.name for path in (tmp_path / "test/predictions").iterdir()) == [
        "case0004.nii.gz",
        "case0005.nii.gz",
    ]
    written = sitk.ReadImage(str(tmp_path / "test/predictions/case0004.nii.gz"))
    assert (written.GetSize(), written.GetPixelID()) == ((64, 64, 4), sitk.sitkUInt8)
    through_pair, through_student = (
        json.loads((folder / "test/metrics.json").read_text(encoding="utf-8")) for folder in (run, tmp_path)
    )
    assert through_pair == through_student
    assert set(through_pair) == {"transunet", "strict"}
    rows = list(csv.DictReader((tmp_path / "test/per_case.csv").open(encoding="utf-8")))
    assert len(rows) == 2 * 2 * 8
    assert list(rows[0]) == ["protocol", "case", "class", "dice", "jaccard", "hd95", "asd", "unit", "status"]

    log = succeed("test.py", "configs/fcn/fcn_r50_d8_40k_synapse.py", "--best", *data, *_options(), cwd=home)
    assert "best_mDice_iter_2.pth" in log
    assert "chosen by its Dice on the test cases" in log


def test_held_out_cases_are_validated_on_and_not_trained_on(home, phantom, tmp_path):
    log = succeed(
        "train.py",
        STUDENT,
        "--data-root",
        phantom,
        "--work-dir",
        tmp_path,
        *_options("train_cfg.max_iters=2", "train_cfg.val_interval=2", "val_cases=['case0002']", "model.slice_batch=4"),
        cwd=home,
    )
    assert "1 case(s)" in log
    log = succeed(
        "test.py",
        STUDENT,
        "--best",
        "--data-root",
        phantom,
        "--work-dir",
        tmp_path,
        *_options("val_cases=['case0002']"),
        cwd=home,
    )
    assert "chosen by its Dice on the test cases" not in log


def test_a_run_in_low_precision_goes_on_from_its_own_config(home, phantom, tmp_path):
    succeed(
        "train.py",
        *(STUDENT, "--amp", "--data-root", phantom, "--work-dir", tmp_path),
        *_options("train_cfg.max_iters=2"),
        cwd=home,
    )
    dumped = tmp_path / "fcn_r18_d8_40k_synapse.py"
    log = succeed(
        "train.py", dumped, "--work-dir", tmp_path, "--resume", "--cfg-options", "train_cfg.max_iters=3", cwd=home
    )
    assert "training in" in log and "[3/3]" in log


def test_two_processes_train_and_test(home, phantom, tmp_path):
    """They are started by ``torchrun``, then by another that sets the same variables."""
    told = [STUDENT, "--launcher", "pytorch", "--data-root", str(phantom), "--work-dir", str(tmp_path)]
    told += ["--cfg-options", *SHORT, "train_cfg.max_iters=2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launch, str(ROOT / "train.py"), *told], cwd=home, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    outputs = [tmp_path / "0.txt", tmp_path / "1.txt"]
    processes = [
        start("test.py", *told, cwd=home, outputs=[out, out], RANK=str(rank), LOCAL_RANK=str(rank), **meeting)
        for rank, out in enumerate(outputs)
    ]
    for process, out in zip(processes, outputs, strict=True):
        process.join(300)
        assert process.exitcode == 0, out.read_text()
    alone = tmp_path / "alone"
    succeed(
        "test.py", STUDENT, tmp_path / "iter_2.pth", "--data-root", phantom, "--work-dir", alone, *_options(), cwd=home
    )
    together, single = (json.loads((folder / "test/metrics.json").read_text()) for folder in (tmp_path, alone))
    assert together == single
    assert "no pictures" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "test/report/labels").iterdir())) == 2


class TestMistakes:
    """Each wrong input gets one message that says what to do."""

    def test_a_config_that_is_not_there(self, home):
        assert "did you mean\n    configs/unet/unet_r18v1c_d8_40k_synapse.py" in fail(
            "train.py", "configs/unet/unet_r18_d8_40k_synapse.py", cwd=home, forked=False
        )

    def test_a_syntax_error_names_file_and_line(self, home, tmp_path):
        (tmp_path / "broken.py").write_text("model = dict(\nx ==\n")
        message = fail("train.py", tmp_path / "broken.py", cwd=home)
        assert "broken.py, line" in message

    def test_data_that_is_not_there(self, home):
        message = fail("train.py", STUDENT, "--data-root", "nowhere", cwd=home)
        assert "data folder not found: nowhere" in message
        assert "make_phantom.py" in message

    def test_an_option_that_does_not_exist(self, home):
        assert "did you mean max_iters" in fail("train.py", STUDENT, "--cfg-options", "train_cfg.max_iter=2", cwd=home)

    def test_an_option_that_would_do_nothing(self, home):
        message = fail("train.py", STUDENT, "--cfg-options", "data_root=x", cwd=home)
        assert "would do nothing" in message

    def test_a_test_before_the_training(self, home):
        message = fail("test.py", STUDENT, cwd=home, forked=False)
        assert "python train.py configs/fcn/fcn_r18_d8_40k_synapse.py" in message

    def test_a_teacher_that_was_never_trained(self, home, phantom):
        message = fail(
            "train.py", "configs/distill/kd/kd_unet_r50_unet_r18_40k_synapse.py", "--data-root", phantom, cwd=home
        )
        assert "python train.py configs/unet/unet_r50_s4_d8_40k_synapse.py" in message

    def test_one_of_two_teachers_that_was_never_trained(self, home, phantom):
        pair = "configs/distill/kd/kd_unet_r50_fcn_r50_unet_r18_40k_synapse.py"
        options = ("model.teachers.0.ckpt=None", "model.teachers.1.ckpt=work_dirs/fcn_r18_d8_40k_synapse")
        message = fail("train.py", pair, "--data-root", phantom, "--cfg-options", *options, cwd=home)
        assert "python train.py configs/fcn/fcn_r18_d8_40k_synapse.py" in message

    def test_a_class_count_that_differs(self, home, phantom):
        message = fail("train.py", STUDENT, "--data-root", phantom, "--cfg-options", "model.num_classes=5", cwd=home)
        assert "model.num_classes is 5" in message

    def test_a_type_that_is_not_registered(self, home, phantom):
        option = "optim_wrapper.optimizer.type=AdmW"
        message = fail("train.py", STUDENT, "--data-root", phantom, "--cfg-options", option, cwd=home)
        assert "fcn_r18_d8_40k_synapse.py: type='AdmW' is not known as optimizer; did you mean AdamW" in message

    def test_a_checkpoint_of_another_network(self, home, phantom, tmp_path):
        torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "other.pth")
        message = fail("test.py", STUDENT, tmp_path / "other.pth", "--data-root", phantom, cwd=home)
        assert "not in the model: a" in message

    def test_a_label_outside_the_classes_in_a_loading_process(self, home, phantom, tmp_path):
        shutil.copytree(phantom, tmp_path / "data")
        for file in (tmp_path / "data/train_npz").glob("*.npz"):
            with np.load(file) as pixels:
                np.savez(file, image=pixels["image"], label=pixels["label"] + 40)
        message = fail(
            "train.py",
            STUDENT,
            "--data-root",
            tmp_path / "data",
            "--work-dir",
            tmp_path / "run",
            "--cfg-options",
            "train_dataloader.num_workers=1",
            cwd=home,
        )
        assert message.startswith("error: ")
        assert ".npz" in message and "dataset.spec" in message

    def test_a_wrong_argument_leads_to_the_help(self, home):
        done = command("train.py", "--bogus", cwd=home)
        assert done.returncode == 2
        assert done.stderr.startswith("train.py: error: ") and "--help lists what train.py takes" in done.stderr
