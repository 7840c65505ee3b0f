"""Command lines of all scripts that make no sense, and places that cannot be read or written."""

from pathlib import Path

from tests.bad_inputs.case import Case, call

_EMPTY = "x = 1\n"
_UNTESTED = (
    "from mmengine.config import read_base\nwith read_base():\n    from .base import *\n"
    "test_dataloader = test_cfg = test_evaluator = None\n"
)
_OPTION = "train.py base.py --cfg-options {}"
_PREPARE = "tools/prepare_slices.py --images {0} --labels {0} --out out --split train --window {1}"
_DISTILL = "tools/distill.py --out out.py --method {} --teacher {} --student {}"
_SWEEP = "tools/sweep.py base.py --key {} --values {} --hold-out {}"


def _last_checkpoint_is_a_folder(path: Path) -> None:
    (path / "last_checkpoint").mkdir(parents=True)
    (path / "base.py").mkdir()


COMMAND_LINES = [
    *(
        call(f"{script} --nope", script.rpartition("/")[2], "error: ")
        for script in (
            "train.py",
            "test.py",
            *(
                f"tools/{tool}.py"
                for tool in (
                    *("compare_methods", "compare_runs", "convert_weights", "distill", "list_taps", "make_phantom"),
                    *("predict", "prepare_dataset", "prepare_slices", "prepare_synapse", "sweep"),
                )
            ),
        )
    ),
    call("train.py", "CONFIG"),
    call("train.py base.py pair.py", "unrecognized arguments: pair.py"),
    call("train.py base.py --work-dir", "--work-dir: expected one argument"),
    call("train.py base.py --cfg-options", "--cfg-options: expected at least one argument"),
    call("train.py base.py --cfg-options=a", "--cfg-options a: expected KEY=VALUE"),
    call("train.py base.py --launcher rocket", "--launcher", "'rocket'"),
    call("train.py base.py --resume --extend 5", "--extend: not allowed with argument --resume"),
    call("train.py base.py --extend x", "--extend: invalid int value: 'x'"),
    call("train.py base.py --work-dir run --extend 2", "--extend 2", "is at iteration 2"),
    call("train.py base.py --extend 5", "work_dirs/base holds no iter_<N>.pth"),
    call(_OPTION.format("=3"), "--cfg-options =3: expected KEY=VALUE"),
    call(_OPTION.format("train_cfg..max_iters=2"), "expected KEY=VALUE"),
    call(_OPTION.format("train_cfgg.max_iters=2"), "no key 'train_cfgg'", "train_cfg"),
    call(_OPTION.format("train_cfg.max_itersx=2"), "--cfg-options train_cfg.max_itersx", "max_iters"),
    call(_OPTION.format("train_cfg.max_iters.x=2"), "--cfg-options train_cfg.max_iters.x"),
    call(_OPTION.format("model.losses.7.type=x"), "--cfg-options model.losses.7.type"),
    call(_OPTION.format("model.losses.type=x"), "--cfg-options model.losses.type"),
    call(_OPTION.format("model.output_weights=(1,2"), "--cfg-options model.output_weights=(1,2", "brackets"),
    call(_OPTION.format("train_cfg.max_iters=1e3"), "train_cfg.max_iters is 1000.0"),
    call(_OPTION.format("val_cases=case0009"), "holds no case case0009"),
    call(_OPTION.format("data_root=x"), "data_root is a variable", "train_dataloader.dataset.data_root"),
    call(_OPTION.format("model.network.type=NoNet"), "NoNet"),
    call(_OPTION.format("train_cfg=None"), "--cfg-options train_cfg", "not set"),
    call("train.py base.py --data-root nothing", "data folder not found: nothing"),
    call("train.py base.py --work-dir base.py", "work_dir base.py cannot be made", "another --work-dir"),
    call("train.py base.py --work-dir base.py/x", "work_dir base.py/x cannot be made", "another --work-dir"),
    call("train.py base.py --work-dir /proc/x", "work_dir /proc/x cannot be made", "another --work-dir"),
    call(f"train.py base.py --work-dir {'x' * 300}", "cannot be made", "another --work-dir"),
    Case(
        "folders in place of files of a run",
        "train.py",
        ("base.py", "--work-dir", "odd"),
        ("cannot write", "odd/base.py"),
        {"odd": _last_checkpoint_is_a_folder},
    ),
    call("test.py base.py", "work_dirs/base is not there. Train it first", "python train.py"),
    call("test.py base.py nothing.pth", "nothing.pth is not there"),
    call("test.py base.py configs", "configs holds no iter_<N>.pth"),
    call("test.py run/iter_2.pth base.py", "iter_2.pth"),
    call("test.py base.py run another", "unrecognized arguments: another"),
    call("test.py base.py run/iter_2.pth --best", "--best chooses the checkpoint"),
    call("test.py base.py configs --best", "configs holds no best_mDice_iter_<N>.pth"),
    call("test.py base.py run --data-root nothing", "data folder not found: nothing"),
    call("test.py base.py run --cfg-options model.num_classes=5", "model.num_classes is 5"),
    call("test.py none.py run", "none.py has no test_evaluator", none=_UNTESTED),
    call("tools/make_phantom.py --out out --cases 0", "cases"),
    call("tools/make_phantom.py --out out --size x", "--size: invalid int value: 'x'"),
    call("tools/make_phantom.py --out out --seed -1", "seed"),
    call("tools/make_phantom.py --out base.py", "base.py"),
    call("tools/make_phantom.py --out /proc/x", "/proc/x"),
    call("tools/predict.py run --out out", "INPUT"),
    call("tools/predict.py run nothing.nii --out out", "1 input(s) could not be predicted"),
    call("tools/predict.py run base.py --out out", "1 input(s) could not be predicted"),
    call("tools/predict.py run configs --out out", "nothing to predict in configs"),
    call("tools/predict.py nothing.pth base.py --out out", "nothing.pth is not there"),
    call("tools/predict.py run base.py --out out --device nope", "nope"),
    call("tools/predict.py run base.py --out out --orientation XYZ", "XYZ"),
    call("tools/convert_weights.py nope a b", "invalid choice: 'nope'"),
    call("tools/convert_weights.py mmseg_kd nothing.pth out.pth --config base.py", "checkpoint not found: nothing.pth"),
    call("tools/convert_weights.py mmseg_kd base.py out.pth --config base.py", "base.py"),
    call("tools/convert_weights.py mmseg_kd run/iter_2.pth base.py --config base.py", "base.py is there already"),
    call("tools/convert_weights.py transunet run/iter_2.pth out.pth", "does not fit"),
    call("tools/convert_weights.py resnet run/iter_2.pth /proc/x", "cannot write /proc/x"),
    call(_DISTILL.format("nope", "base.py", "base.py"), "nope", "cwd"),
    call(_DISTILL.format("CWD", "nothing.py", "base.py"), "config not found: nothing.py"),
    call(_DISTILL.format("CWD", "none.py", "base.py"), "none.py has no model", none=_EMPTY),
    call(_DISTILL.format("CWD", "base.py", "none.py"), "none.py has no model", none=_EMPTY),
    call(_DISTILL.format("CWD", "base.py", "base.py --out base.py"), "base.py is already there", "--overwrite"),
    call("tools/list_taps.py none.py", "none.py has no model", none=_EMPTY),
    call("tools/list_taps.py base.py --size 0 0", "--size 0 0: both must be at least 1"),
    call("tools/compare_runs.py run nothing", "run"),
    call("tools/compare_runs.py run run --protocol nope", "invalid choice: 'nope'"),
    call("tools/compare_runs.py run run --measures nope", "nope"),
    call("tools/compare_methods.py --teacher nothing.py", "config not found: nothing.py"),
    call("tools/compare_methods.py --methods nope", "nope"),
    call("tools/compare_methods.py --methods CWD --seeds -1", "randomness.seed is -1"),
    call("tools/compare_methods.py --jobs 0", "--jobs"),
    call("tools/compare_methods.py --methods CWD --cfg-options x", "--cfg-options x: expected KEY=VALUE"),
    call("tools/compare_methods.py --method-options CWD nope=1", "nope"),
    call("tools/compare_methods.py --methods CWD --finished", "no seed is finished yet"),
    call("tools/compare_methods.py --out configs", "--out configs is a folder"),
    call("tools/compare_methods.py --methods CWD --data-root nowhere", "data folder not found: nowhere"),
    call(
        "tools/sweep.py base.py --key optim_wrapper.optimizer.lr --values 0.1 --val-cases 1",
        "holds no case 1",
        "case0001",
    ),
    call(_SWEEP.format("nope.x", "1", "1"), "nope"),
    call(_SWEEP.format("optim_wrapper.optimizer.lr", "x", "1"), "optim_wrapper.optimizer.lr is 'x'"),
    call(_SWEEP.format("optim_wrapper.optimizer.lr", "0.1", "99"), "--hold-out 99"),
    call(_PREPARE.format("nothing", "0 1"), "nothing"),
    call(_PREPARE.format("configs", "0 1"), "configs"),
    call(_PREPARE.format("configs", "1 0"), "window"),
    call(_PREPARE.format("configs", "x 0"), "--window: invalid float value: 'x'"),
    call(_PREPARE.format("configs", "0 1 --label-map nope"), "nope"),
    call("tools/prepare_synapse.py --raw nothing --out out", "nothing"),
    call("tools/prepare_dataset.py acdc --raw nothing --out out", "nothing is no folder"),
    call("tools/prepare_dataset.py acdc --raw configs --out out", "holds no training", "patient001"),
    call("tools/prepare_dataset.py nope --raw configs --out out", "invalid choice: 'nope'", "kvasir-seg"),
    call("train.py base.py --fold 0", "--fold 0", "has no folds"),
    call("train.py base.py --from-plans", "holds prepared slices"),
]
