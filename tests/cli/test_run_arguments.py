"""The command lines of train.py and test.py."""

import pytest

from medseg_kd.cli import Parser
from medseg_kd.cli.run_arguments import add_run_arguments

CONFIG = "configs/demo/unet_r18_phantom.py"


@pytest.mark.parametrize(
    "words",
    [
        "CONFIG CKPT --work-dir w --cfg-options a=1 b=[1,2]",
        "CONFIG --work-dir w CKPT --cfg-options a=1 b=[1,2]",
        "--work-dir w CONFIG --cfg-options a=1 b=[1,2] CKPT",
        "--cfg-options a=1 b=[1,2] CONFIG CKPT --work-dir w",
        "CONFIG --cfg-options a=1 CKPT b=[1,2] --work-dir w",
        "--cfg-options a=1 CONFIG --cfg-options b=[1,2] CKPT --work-dir w",
    ],
)
def test_arguments_may_come_in_any_order(words):
    parser = Parser("test.py", "")
    add_run_arguments(parser)
    parser.add_argument("checkpoint", nargs="?")
    args = parser.read(words.replace("CONFIG", CONFIG).split())
    assert (args.config, args.checkpoint, args.work_dir) == (CONFIG, "CKPT", "w")
    assert args.cfg_options == ["a=1", "b=[1,2]"]


def test_options_without_a_value(capsys):
    parser = Parser("test.py", "")
    add_run_arguments(parser)
    with pytest.raises(SystemExit):
        parser.read([CONFIG, "--cfg-options"])
    assert "--cfg-options: expected at least one argument" in capsys.readouterr().err
