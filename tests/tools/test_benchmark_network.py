"""``tools/dev/benchmark.py network`` and ``tools/dev/model_table.py``."""

import pytest

import benchmark
import model_table
from medseg_kd.errors import UserError

CONFIG = "configs/fcn/fcn_r18_d8_40k_synapse.py"
SMALL = ["--size", "32", "32", "--batch", "1", "--repeat", "1", "--device", "cpu"]


@pytest.fixture
def theirs(tmp_path):
    """A file with another implementation: the same network."""
    file = tmp_path / "theirs.py"
    file.write_text(
        "from mmengine.config import Config\n"
        "from medseg_kd.registry import MODELS\n"
        "def build():\n"
        f"    return MODELS.build(Config.fromfile({CONFIG!r}).model).network\n"
    )
    return file


def test_a_network_beside_another(theirs, capsys):
    benchmark.main(["network", CONFIG, "--beside", f"{theirs}:build", *SMALL])
    printed = capsys.readouterr().out
    assert "parameters: ours 13,264,306, theirs 13,264,306" in printed
    rows = [line for line in printed.splitlines() if "memory" in line]
    assert len(rows) == 2 and all(row.endswith(" 1.00 |") for row in rows)


@pytest.mark.parametrize(("name", "message"), [("none.py:build", "no such file"), ("{}:biuld", "it has .*build")])
def test_another_network_that_is_not_there(theirs, name, message):
    with pytest.raises(UserError, match=message):
        benchmark.main(["network", CONFIG, "--beside", name.format(theirs), *SMALL])


def test_a_row_for_each_config(capsys, tmp_path):
    page = tmp_path / "models.md"
    page.write_text("# Models\n<!-- model table -->\nold\n<!-- end of model table -->\nend\n")
    model_table.main([CONFIG, *SMALL, "--insert", str(page)])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if CONFIG in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "13.26"
    assert all(float(cell) > 0 for cell in cells[2:])
    text = page.read_text()
    assert text.startswith("# Models\n<!-- model table -->\n") and text.endswith("<!-- end of model table -->\nend\n")
    assert row in text and "old" not in text


@pytest.fixture
def four_channels(tmp_path):
    """A config whose images have four channels."""
    file = tmp_path / "four.py"
    file.write_text(
        "model = dict(type='Segmentor', num_classes=2, in_channels=4, network=dict(type='MedNeXt', channels=2, "
        "expansion_ratios=(2, 2, 2), block_counts=(1, 1, 1)))\n"
    )
    return str(file)


def test_images_of_four_channels_are_measured(four_channels, tmp_path, capsys):
    model_table.main([four_channels, *SMALL])
    (row,) = [line for line in capsys.readouterr().out.splitlines() if four_channels in line]
    memory = [float(cell) for cell in row.strip("|").split("|")[4::2]]
    assert len(memory) == 2 and min(memory) > 0
    (tmp_path / "theirs.py").write_text("from torch import nn\n\ndef build():\n    return nn.Conv2d(4, 2, 1)\n")
    benchmark.main(["network", four_channels, "--beside", f"{tmp_path}/theirs.py:build", *SMALL])
    assert "input (1, 4, 32, 32)" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--size", "--batch", "--repeat"])
def test_numbers_that_are_not_positive(four_channels, option, capsys):
    numbers = ["0", "8"] if option == "--size" else ["0"]
    with pytest.raises(UserError, match="must be at least 1"):
        model_table.main([four_channels, *SMALL, option, *numbers])
    assert capsys.readouterr().out == ""


def test_a_page_without_a_place_for_the_table(tmp_path):
    page = tmp_path / "models.md"
    page.write_text("# Models\n")
    with pytest.raises(UserError, match="has no line <!-- model table -->"):
        model_table.main([CONFIG, *SMALL, "--insert", str(page)])
    assert page.read_text() == "# Models\n"


def test_by_default_all_networks_are_measured(root):
    names = model_table.all_configs()
    assert CONFIG in names and "configs/unet/unet_r50_s4_d8_40k_synapse.py" in names
    assert not [name for name in names if {"demo", "distill", "_base_"} & set(name.split("/"))]
    assert all((root / name).is_file() for name in names)
