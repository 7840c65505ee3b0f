"""tools/list_taps.py: what it prints can be recorded."""

import re

import pytest
import torch
from mmengine.config import Config

from medseg_kd.cli.list_taps import main
from medseg_kd.distill import ModuleOutputs
from medseg_kd.errors import UserError
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.registry import MODELS
from medseg_kd.report.taps import taps_page
from tests.cli.commands import ROOT, command
from tests.distill.pairs import encoder_decoder

LINE = re.compile(r"^  (\S+) +(\S+) +(\(.+?\))(?:  +(.+))?$")


def rows(text: str) -> list[tuple[str, ...]]:
    """Source, type, shape and remark of each line."""
    return [match.groups(default="") for line in text.splitlines() if (match := LINE.match(line))]


def test_every_line_is_what_a_recorder_gets(capsys):
    config = str(ROOT / "configs/demo/unet_r18_half_phantom.py")
    main([config, "--size", "64", "32"])
    printed = rows(capsys.readouterr().out)
    model = MODELS.build(Config.fromfile(config).model)
    with_indices = 0
    recorders = {source: ModuleOutputs(model, source) for source, *_ in printed}
    for recorder in recorders.values():
        recorder.start()
    model(torch.zeros(2, 1, 64, 32), mode="tensor")
    for source, kind, shape, remark in printed:
        indices = {key: int(value) for key, value in re.findall(r"(record_idx|data_idx)=(\d+)", remark)}
        with_indices += len(indices)
        assert str(tuple(recorders[source].get(**indices).shape)) == shape
        assert type(dict(model.named_modules())[source]).__name__ == kind
    assert with_indices > 6
    stages = {source: remark for source, _, _, remark in printed if "stage" in remark}
    assert stages == {f"network.backbone.layer{i + 1}": f"stage {i} of feature_info" for i in range(4)}
    assert ("network", "UNet", "(2, 9, 8, 4)", "data_idx=1") in printed
    assert not [source for source in recorders if source.startswith(("losses", "data_preprocessor"))]


def test_a_distillation_shows_the_student_then_the_teacher(capsys):
    main([str(ROOT / "configs/demo/cwd_unet_r18_phantom.py"), "--size", "64", "64"])
    student, teacher = capsys.readouterr().out.split("\nteacher: UNet, eval mode\n")
    assert "student: UNet, training mode" in student
    for text, channels in ((student, 128), (teacher, 256)):
        assert ("network.backbone.layer4", "ResLayer", f"(2, {channels}, 4, 4)", "stage 3 of feature_info") in rows(
            text
        )
    sources = [{source for source, *_ in rows(text)} for text in (student, teacher)]
    assert sources[0] - sources[1] and all("auxiliary_head" in source for source in sources[0] - sources[1])


def test_stages_that_one_module_returns():
    page = taps_page(build_segmentor(encoder_decoder()), (64, 64))
    stages = [(source, shape, remark) for source, _, shape, remark in rows(page) if "stage" in remark]
    assert [source for source, *_ in stages] == ["backbone"] * 4
    assert stages[1][1:] == ("(2, 8, 8, 8)", "stage 1 of feature_info, data_idx=1")


def test_the_input_has_the_model_s_channels(capsys, tmp_path):
    config = tmp_path / "four.py"
    demo = ROOT / "configs/demo/cwd_unet_r18_phantom.py"
    config.write_text(
        "from mmengine.config import Config\n"
        f"model = Config.fromfile({str(demo)!r}).model\n"
        "model.architecture.in_channels = model.teacher.in_channels = 4\n"
    )
    main([str(config), "--size", "64", "32"])
    printed = capsys.readouterr().out
    assert "Shapes for an input of (2, 4, 64, 32)" in printed
    assert "student: UNet" in printed and "teacher: UNet" in printed


def test_mistakes_are_refused(tmp_path):
    with pytest.raises(UserError, match="--size 0 8"):
        main([str(ROOT / "configs/demo/unet_r18_phantom.py"), "--size", "0", "8"])
    done = command("tools/list_taps.py", "configs/unet/unet.py", cwd=tmp_path, forked=False)
    assert done.returncode == 2 and done.stderr.startswith("error: config not found")
