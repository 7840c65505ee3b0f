"""The command, on healthy and on damaged data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_kd.cli.check_dataset import main
from medseg_kd.errors import UserError

CONFIG = Path(__file__).parents[2] / "configs/unet/unet_r18v1c_d8_40k_synapse.py"


@pytest.fixture
def damaged(phantom: Path, tmp_path: Path) -> Path:
    shutil.copytree(phantom, root := tmp_path / "data")
    for path in (root / "train_npz").glob("case0001_*"):
        path.write_bytes(b"")
    return root


def test_a_healthy_folder_and_config(phantom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(phantom)])
    told = capsys.readouterr().out
    assert "train: 3 cases, 12 slices (transunet in" in told and "size: 64x64 (2 files)" in told
    assert "liver" in told and "intensities: 0 to 1" in told and told.endswith("14 files read: 0 faults, 0 warnings\n")
    main([str(CONFIG), "--data-root", str(phantom), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["findings"] == []
    assert told["summary"]["train"]["slices"] == 12 and told["summary"]["val (test)"]["pixels"]["spleen"] > 0


def test_a_table_of_what_is_wrong(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(damaged)])
    assert ended.value.code == 1
    told = capsys.readouterr().out
    for text in (
        "file",
        "found",
        "expected",
        "remedy",
        "│ train_npz/case0001_slice003.npz",
        "copy or prepare it again",
    ):
        assert text in told
    assert "4 faults, 0 warnings" in told
    with pytest.raises(SystemExit):
        main([str(damaged), "--json"])
    assert len(json.loads(capsys.readouterr().out)["findings"]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "neither a data folder nor a config"),
        (["."], "holds no train split"),
        ([".", "--workers", "-1"], "expected 0 or more"),
    ],
)
def test_nothing_to_check(words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        main(words)


def test_white_of_a_black_and_white_mask_is_the_second_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for folder, pixels in (("img_dir", np.arange(100) + len(split)), ("ann_dir", 255 * (np.arange(100) < 25))):
            (tmp_path / "data" / folder / split).mkdir(parents=True)
            image = Image.fromarray(pixels.astype(np.uint8).reshape(10, 10))
            image.save(tmp_path / "data" / folder / split / f"{split}.png")
    shutil.copytree(CONFIG.parents[1], "configs", ignore=shutil.ignore_patterns("__pycache__"))
    spec = dict(channels=dict(grey=dict(type="RGB8")), classes=("background", "lesion"))
    text = CONFIG.with_name("unet_r18v1c_d8_40k_folder.py").read_text()
    loop = "for each in (train_dataloader, val_dataloader, test_dataloader):\n"
    Path("configs/unet/lesions.py").write_text(
        f"{text}{loop}    each['dataset'].update(data_root='data', spec={spec})\n"
    )
    main(["configs/unet/lesions.py"])
    assert capsys.readouterr().out.count("pixels: background 75 %, lesion 25 %") == 2
