"""tools/distill.py: the pairs that it writes load, in any folder."""

import os
import re
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from medseg_kd.cli.distill import main
from medseg_kd.distill import DIST, KD
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS
from tests.cli.commands import ROOT, fail, succeed

TEACHER, STUDENT = "configs/demo/unet_r18_phantom.py", "configs/demo/unet_r18_half_phantom.py"
TEXT_STYLE = (
    "default_scope = 'medseg_kd'\n"
    "model = dict(type='Segmentor', num_classes=9, network=dict(type='UNet', backbone=dict(type='ResNetV1c', depth=18, "
    "in_channels=1, base_channels=8)))\n"
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a copy of the configs, the working directory of the test."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("distill", "__pycache__"))
    shutil.copytree(ROOT / "configs/_base_/distill", tmp_path / "configs/_base_/distill")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pair(method: str, teacher: object, student: object, *options: object) -> None:
    main(["--method", method, "--teacher", str(teacher), "--student", str(student), *map(str, options)])


def widths(path: object) -> tuple[int, int, type, str]:
    """Width of the student and of the teacher, method and teacher's run of a written pair."""
    model = MODELS.build(Config.fromfile(path).model)
    stems = [each.network.backbone.base_channels for each in (model.student, model.teacher)]
    return (*stems, type(model.distiller), model.teacher_ckpt)


def test_the_default_file_and_what_to_run_next(home, capsys):
    pair("Dist", TEACHER, STUDENT)
    out = "configs/distill/DIST/dist_unet_r18_unet_r18_half_phantom.py"
    assert capsys.readouterr().out.splitlines() == [
        f"{out}: dist, UNet -> UNet",
        "next:",
        f"    python train.py {TEACHER}  # the teacher: work_dirs/unet_r18_phantom holds no checkpoint yet",
        f"    python train.py {out}",
    ]
    assert widths(out) == (16, 32, DIST, "work_dirs/unet_r18_phantom")
    assert len(Path(out).read_text().splitlines()) <= 15
    (home / "work_dirs/unet_r18_phantom").mkdir(parents=True)
    (home / "work_dirs/unet_r18_phantom/iter_1.pth").touch()
    pair("dist", TEACHER, STUDENT, "--overwrite")
    assert TEACHER not in capsys.readouterr().out
    with pytest.raises(UserError, match="already there: give --overwrite"):
        pair("dist", TEACHER, STUDENT)


@pytest.mark.parametrize("out", ["pair.py", "mine/deep/er/pair.py", "configs/mine.py"])
def test_models_of_ones_own_in_any_folder(home, out):
    for name, width in (("wide", 24), ("narrow", 8)):
        folder = home / name / "experiment_1"
        folder.mkdir(parents=True)
        (folder / f"{name}.py").write_text(
            "from mmengine.config import read_base\n\nwith read_base():\n"
            f"    from ...configs.demo.unet_r18_phantom import *\n\nwork_dir = 'runs/{name}'\n"
            f"model.update(network=dict(backbone=dict(base_channels={width}, stem_channels=8)))\n"
        )
    pair("kd", "wide/experiment_1/wide.py", home / "narrow/experiment_1/narrow.py", "--out", out)
    assert widths(out) == (8, 24, KD, "runs/wide")
    assert Config.fromfile(out).work_dir == f"work_dirs/{Path(out).stem}"
    assert not list(home.rglob("*.draft.py"))


def test_the_student_of_a_pair_can_teach_and_learn(home):
    pair("kd", TEACHER, STUDENT, "--out", "first.py")
    pair("dist", "first.py", TEACHER, "--out", "second.py")
    assert widths("second.py") == (32, 16, DIST, "work_dirs/first")
    pair("dist", "first.py", "first.py", "--out", "third.py")
    assert widths("third.py") == (16, 16, DIST, "work_dirs/first")
    assert len(Path("third.py").read_text().splitlines()) <= 15


def test_text_style(home):
    Path("text.py").write_text(TEXT_STYLE)
    pair("kd", "text.py", STUDENT, "--out", "pair.py")
    assert widths("pair.py") == (16, 8, KD, "work_dirs/text")
    Path("inherits.py").write_text("_base_ = ['text.py']\n")
    with pytest.raises(UserError, match="inherits.py inherits in text style") as refused:
        pair("kd", "inherits.py", STUDENT, "--out", "other.py")
    exec(re.search(r'python -c "(.+)"', str(refused.value))[1])
    pair("kd", "inherits_flat.py", STUDENT, "--out", "other.py")
    assert widths("other.py") == (16, 8, KD, "work_dirs/inherits_flat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reviwkd", TEACHER, STUDENT), "no method 'reviwkd'; did you mean reviewkd"),
        (
            ("fitnets", TEACHER, STUDENT),
            "there are at, attnfd, .*, kd, labels, lskd, mgd, reviewkd",
        ),
        (("kd", TEACHER, "configs/demo/unet_r18_half_phanton.py"), "did you mean\n    .*unet_r18_half_phantom.py"),
        (("kd", TEACHER, STUDENT, "--out", "a-folder/pair.txt"), "ends with .py"),
        (("kd", "configs/demo/unet_r18_headneck.py", STUDENT), "student predicts 9 classes .* the teacher 6"),
        (("at", "monai_unet.py", STUDENT), "the teacher's network HighResNet has no feature_info"),
        (("kd", "silent.py", STUDENT), "DynUNet_.*is no network"),
        (("kd", "a-folder/text.py", STUDENT), "pair.py cannot import a-folder/text.py: 'a-folder'"),
        (("kd", "class/text.py", STUDENT), "cannot import class/text.py: 'class' on the way"),
    ],
)
def test_mistakes_leave_no_file(home, arguments, message):
    for folder in (".", "a-folder", "class"):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, "text.py").write_text(TEXT_STYLE)
    Path("silent.py").write_text(TEXT_STYLE + "model['network'] = dict(type='DynUNet_')\n")
    Path("monai_unet.py").write_text(
        "from monai.networks.nets import HighResNet\nfrom medseg_kd.models import Segmentor\n"
        "model = dict(type=Segmentor, num_classes=9, network=dict(type=HighResNet, spatial_dims=2))\n"
    )
    options = arguments if "--out" in arguments else (*arguments, "--out", "new/pair.py")
    with pytest.raises(UserError, match=message):
        pair(*options)
    assert not [name for _, _, names in os.walk("new") for name in names]


def test_the_command(home):
    succeed("tools/distill.py", "--method", "KD", "--teacher", TEACHER, "--student", STUDENT, cwd=home)
    assert widths("configs/distill/kd/kd_unet_r18_unet_r18_half_phantom.py")[2] is KD
    assert "already there" in fail(
        "tools/distill.py", "--method", "KD", "--teacher", TEACHER, "--student", STUDENT, cwd=home
    )
