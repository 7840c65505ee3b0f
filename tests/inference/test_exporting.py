"""Exports give what the checkpoint gives, whatever is done to its images; one that does not is not written."""

import os
import pprint
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from PIL import Image
from torch import nn

from medseg_kd.configuration import read_config, segmentor_of
from medseg_kd.datasets.intensities import RGB8, Intensity, Percentiles, Stored, Window, ZScore
from medseg_kd.datasets.phantom import SYNAPSE_CLASSES
from medseg_kd.datasets.spec import Channel, DataSpec
from medseg_kd.datasets.transforms import zoom_planes
from medseg_kd.errors import UserError
from medseg_kd.inference import Predictor
from medseg_kd.inference.end_to_end import EndToEnd
from medseg_kd.inference.export_proof import check_logits
from medseg_kd.inference.exporting import export
from medseg_kd.inference.loading import load_predictor
from medseg_kd.inference.onnx_export import write_graph
from medseg_kd.inference.onnx_predictor import OnnxPredictor
from medseg_kd.inference.spline_zoom import zoom_labels, zoom_matrix
from medseg_kd.models.checkpoint import read_checkpoint
from medseg_kd.models.mmseg_adapter import build_segmentor
from medseg_kd.registry import MODELS
from tests.cli.commands import ROOT
from tests.inference.saved import CLASSES, write_checkpoint

BACKBONE = {"type": "ResNetV1c", "depth": 18, "base_channels": 4, "stem_channels": 4, "contract_dilation": True}
UNET = {"type": "UNet", "backbone": {**BACKBONE, "strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}}
MEDNEXT = {"type": "MedNeXt", "channels": 4, "block_counts": (1,) * 9}


@MODELS.register_module()
class Mixing(nn.Conv2d):
    """Logits of noise whose largest is now this, now that; exported in no time."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__(in_channels, num_classes, 3, padding=1, bias=False)
        with torch.no_grad():
            self.weight -= self.weight.mean((1, 2, 3), keepdim=True)


MIXING = {"type": f"{Mixing.__module__}.Mixing"}


def checkpoint(
    folder: Path, *rules: Intensity, network: dict = MIXING, size: Any = None, neighbours: int = 0, **model: Any
) -> Path:
    """A checkpoint of random weights, whose labels are many."""
    torch.manual_seed(0)
    spec = DataSpec(
        tuple(Channel(f"channel {index}", rule) for index, rule in enumerate(rules)),
        CLASSES,
        orientation="LPS",
        neighbours=neighbours,
    )
    config = {"type": "Segmentor", "num_classes": len(CLASSES), "in_channels": spec.num_channels, **model}
    config["network"] = network
    weights = MODELS.build(config).state_dict()
    test = {"dataset": {"type": "CaseDataset", "size": size}}
    text = f"model = {pprint.pformat(config)}\ntest_dataloader = {test!r}\n"
    path = folder / "iter_1.pth"
    torch.save({"meta": {"cfg": text, "spec": spec.to_json()}, "state_dict": weights}, path)
    return path


def volume(path: Path, low: float = -400, high: float = 400, kind: type = np.int16) -> Path:
    values = np.random.default_rng(0).uniform(low, high, (3, 40, 52)).astype(kind)
    sitk.WriteImage(sitk.DICOMOrient(sitk.GetImageFromArray(values), "RAS"), str(path))
    return path


WINDOW = (Window(-160, 240),)


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        (WINDOW, {}),
        (WINDOW, {"size_divisor": 16, "data_preprocessor": {"size": (48, 40)}}),
        ((ZScore(nonzero=True), Percentiles()), {"size": (32, 48)}),
        ((Stored(),), {"neighbours": 1}),
        (WINDOW, {"type": "RegionSegmentor", "regions": [("both", (1, 2), 1), ("spleen", (2,), 2)]}),
    ],
    ids=["window", "resized and padded", "of a case, zoomed", "neighbours", "regions"],
)
def test_the_graph_gives_the_labels_of_the_checkpoint(tmp_path: Path, rules: tuple, options: dict) -> None:
    stored = isinstance(rules[0], Stored)
    options = {"low": 0, "high": 1, "kind": np.float32} if stored else {}, options
    scans = [volume(tmp_path / f"scan_000{index}.nii.gz", **options[0]) for index in range(len(rules))]
    path, out = checkpoint(tmp_path, *rules, **options[1]), tmp_path / "out/model.onnx"
    lines = export(path, out, scans)
    assert len(lines) == 2 and "logits of noise" in lines[0] and "Dice 1.0" in lines[1]
    found, wanted = OnnxPredictor(out)(scans), Predictor.from_checkpoint(path, "cpu")(scans)
    assert len(np.unique(wanted.labels)) > 1
    np.testing.assert_array_equal(found.labels, wanted.labels)
    assert found.image.GetDirection() == wanted.image.GetDirection()
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    assert [output.name for output in onnx.load(out).graph.output] == ["labels"]


def test_images_and_prepared_cases_and_logits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", image=pixels.astype(np.float32) / 255)
    path, out = checkpoint(tmp_path, RGB8()), tmp_path / "model.onnx"
    export(path, out, logits=True)
    wanted, graph = Predictor.from_checkpoint(path, "cpu"), OnnxPredictor(out)
    for name in ("a.png", "a.npz"):
        np.testing.assert_array_equal(graph(tmp_path / name).labels, wanted(tmp_path / "a.png").labels)
    labels, logits = graph.model.run(None, {"image": pixels[None, None].astype(np.float32)})
    np.testing.assert_array_equal(logits.argmax(1), labels)


@pytest.mark.parametrize("network", [UNET, MEDNEXT], ids=["U-Net", "MedNeXt"])
def test_a_network(tmp_path: Path, network: dict) -> None:
    """Its logits at two sizes and two numbers of slices are compared when it is exported."""
    assert export(checkpoint(tmp_path, *WINDOW, network=network), tmp_path / "model.onnx")


def test_weights(tmp_path: Path) -> None:
    scan = volume(tmp_path / "scan.nii.gz")
    path, out = checkpoint(tmp_path, *WINDOW, size=(24, 32)), tmp_path / "model.safetensors"
    lines = export(path, out, [scan])
    assert "difference 0.0e+00" in lines[0]
    np.testing.assert_array_equal(load_predictor(out)(scan).labels, load_predictor(path)(scan).labels)
    assert read_checkpoint(out)["state_dict"].keys() == read_checkpoint(path)["state_dict"].keys()
    out.write_bytes(out.read_bytes()[:200])
    with pytest.raises(UserError, match="model.safetensors cannot be read as safetensors"):
        load_predictor(out)


def test_another_model_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndToEnd, "_logits", lambda self, x: 1.001 * self.segmentor(x))
    with pytest.raises(UserError, match=r"is not the checkpoint's, and was not written: .* allowed 1e-04"):
        export(checkpoint(tmp_path, *WINDOW), tmp_path / "out/model.onnx")
    assert not list((tmp_path / "out").iterdir())


def test_a_model_that_finds_nothing_is_not_written(tmp_path: Path) -> None:
    scan = volume(tmp_path / "scan.nii.gz")
    spec = DataSpec((Channel("CT", *WINDOW),), CLASSES, orientation="LPS")
    path = write_checkpoint(tmp_path / "iter_1.pth", spec)
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["network.threshold"].fill_(2)
    torch.save(saved, path)
    with pytest.raises(UserError, match="the checkpoint finds nothing but background in the given cases"):
        export(path, tmp_path / "out/model.safetensors", [scan])
    assert not list((tmp_path / "out").iterdir())


def test_eight_bits(tmp_path: Path) -> None:
    scan = volume(tmp_path / "scan.nii.gz")
    path, out = checkpoint(tmp_path, *WINDOW), tmp_path / "out/model.onnx"
    predictor = Predictor.from_checkpoint(path, "cpu")
    (tmp_path / "data/train_npz").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(4):
        image = rng.random((40, 52), np.float32)
        labels = predictor.model.predict_volume(torch.from_numpy(image)[None, None])[0]
        np.savez(tmp_path / f"data/train_npz/a_slice{index:03d}.npz", image=image, label=labels.numpy())
    lines = export(path, out, [scan], int8=tmp_path / "data")
    assert lines[1].startswith("8 bits: Dice 9") and "of float32 100.00" in lines[1]
    kinds = {node.op_type for node in onnx.load(out).graph.node}
    assert "QuantizeLinear" in kinds and [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    assert (OnnxPredictor(out)(scan).labels == predictor(scan).labels).mean() > 0.95
    with pytest.raises(UserError, match="not the images that the model was trained on: .* differ in channels"):
        (tmp_path / "data/manifest.json").write_text('{"spec": {"channel_names": {"0": "MR"}}}')
        export(path, out, int8=tmp_path / "data")


def test_mistakes(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, *WINDOW)
    with pytest.raises(UserError, match=r"model.pt: expected a name that ends in \.onnx or"):
        export(path, tmp_path / "model.pt")
    with pytest.raises(UserError, match="--logits is for a graph"):
        export(path, tmp_path / "model.safetensors", logits=True)
    (tmp_path / "bad.onnx").write_text("no graph")
    with pytest.raises(UserError, match="bad.onnx cannot be read as an ONNX graph"):
        load_predictor(tmp_path / "bad.onnx")
    with pytest.raises(UserError, match="no such file: .*none.onnx"):
        load_predictor(tmp_path / "none.onnx")
    export(path, out := tmp_path / "model.onnx")
    with pytest.raises(UserError, match="device 'tpu' cannot be used: this ONNX Runtime has .*CPUExecutionProvider"):
        load_predictor(out, "tpu")
    with pytest.raises(UserError, match="all values .* lie outside the window -160 240"):
        load_predictor(out)(volume(tmp_path / "scan.nii.gz", 2000, 3000))
    foreign = onnx.load(out)
    del foreign.metadata_props[:]
    onnx.save(foreign, out)
    with pytest.raises(UserError, match=r"model.onnx does not say what its images are: it is no file"):
        load_predictor(out)


@pytest.mark.parametrize("axis", [(101, 64), (512, 224), (64, 83), (5, 2)])
def test_resizing_is_that_of_scipy(axis: tuple[int, int]) -> None:
    old, new = axis
    rng = np.random.default_rng(0)
    plane, labels = rng.random((old, old), np.float32), rng.integers(1, 9, (old, old), dtype=np.uint8)
    matrix = zoom_matrix(old, new).numpy()
    np.testing.assert_allclose(matrix @ plane @ matrix.T, zoom_planes(plane, (new, new), 3), atol=2e-6)
    found = zoom_labels(torch.from_numpy(labels)[None], new, new)[0].numpy()
    np.testing.assert_array_equal(found, zoom_planes(labels, (new, new), 0))


@pytest.mark.full
@pytest.mark.parametrize(
    "config",
    [
        "fcn/fcn_r18_d8_40k_synapse",
        "fcn/fcn_r50_d8_40k_synapse",
        "unet/unet_r18v1c_d8_40k_synapse",
        "unet/unet_r50_s4_d8_40k_synapse",
        "attn_unet/attn_ma_unet_r18v1c_synapse_40k",
        "medical_seg/mednext_40k_synapse",
        "medical_seg/missformer_40k_synapse",
        "medical_seg/transunet_40k_synapse",
        "medical_seg/swin_unetr_base_40k_synapse",
    ],
)
def test_a_network_of_the_configs(tmp_path: Path, config: str) -> None:
    torch.manual_seed(0)
    model = segmentor_of(read_config(ROOT / "configs" / f"{config}.py").model)
    built = build_segmentor({"num_classes": len(SYNAPSE_CLASSES), **model}).eval()
    predictor = Predictor(built, DataSpec((Channel("CT", *WINDOW),), SYNAPSE_CLASSES, orientation="LPS"))
    write_graph(predictor, tmp_path / "model.onnx")
    print(config, check_logits(predictor, OnnxPredictor(tmp_path / "model.onnx")), flush=True)


RUN = """
from medseg_kd.cli import run
from medseg_kd.cli.predict import main
run(main)
"""
WITHOUT = f"""
import sys
ABSENT = "torch mmengine mmcv mmseg monai scipy einops h5py PIL prettytable rich submitit onnx safetensors".split()

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
{RUN}"""


def predicted(python: Path | str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run predict.py with another interpreter on the inputs of a folder."""
    return subprocess.run(
        [python, "-c", code, "model.onnx", "scan.nii.gz", "a.npz", "--out", "masks"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a graph, a volume and a prepared slice."""
    folder = tmp_path_factory.mktemp("elsewhere")
    volume(folder / "scan.nii.gz")
    np.savez(folder / "a.npz", image=np.zeros((32, 32), np.float32))
    export(checkpoint(folder, *WINDOW), folder / "model.onnx")
    return folder


def assert_masks_without_pytorch(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 1 and done.stderr.count("not predicted") == 1, done.stderr
    assert "a.npz: prepared cases are read where all of medseg_kd is installed (No module named" in done.stderr
    mask = sitk.ReadImage(str(folder / "masks/scan.nii.gz"))
    wanted = load_predictor(folder / "iter_1.pth")(folder / "scan.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), wanted.labels)
    assert mask.GetDirection() == wanted.image.GetDirection()


def test_onnx_runtime_numpy_and_simpleitk_are_enough(elsewhere: Path) -> None:
    assert_masks_without_pytorch(predicted(sys.executable, WITHOUT, elsewhere), elsewhere)


@pytest.mark.full
def test_an_environment_without_pytorch(elsewhere: Path) -> None:
    """As docs/export.md says to install it."""
    subprocess.run([sys.executable, "-m", "venv", elsewhere / "venv"], check=True)
    python = elsewhere / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime", "numpy", "SimpleITK"], check=True)
    assert_masks_without_pytorch(predicted(python, RUN, elsewhere), elsewhere)
