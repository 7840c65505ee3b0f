"""Checkpoint files: nothing in them runs, nothing of them is lost."""

import errno
import os
import pickle
import urllib.error
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from torch import nn

from medseg_kd.errors import UserError
from medseg_kd.models import checkpoint as module
from medseg_kd.models import checkpoint_address
from medseg_kd.models.checkpoint import (
    best_checkpoint,
    last_checkpoint,
    load_weights,
    read_checkpoint,
    resolve_checkpoint,
    write_checkpoint,
)

CHECKPOINT = {
    "state_dict": {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2, dtype=torch.bfloat16)},
    "meta": {"iter": 3, "classes": ("background", "aorta"), "cfg": "model = dict()", "seed": None},
}


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def assert_same(found: dict, expected: dict) -> None:
    assert found["meta"] == expected["meta"]
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    for key, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][key], value) and found["state_dict"][key].dtype == value.dtype


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "run" / "iter_3.pth"
    write_checkpoint(CHECKPOINT, path)
    assert_same(torch.load(path, weights_only=True), CHECKPOINT)
    assert_same(read_checkpoint(path), CHECKPOINT)
    assert [file.name for file in path.parent.iterdir()] == ["iter_3.pth"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_bare_state_dict(tmp_path):
    torch.save(CHECKPOINT["state_dict"], tmp_path / "weights.pth")
    assert_same({"meta": None, **read_checkpoint(tmp_path / "weights.pth")}, {**CHECKPOINT, "meta": None})


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickled_object_is_refused_and_does_not_run(tmp_path, old_format):
    path = tmp_path / "iter_1.pth"
    torch.save({"state_dict": {}, "x": Bomb(tmp_path / "ran")}, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UserError, match=r"iter_1\.pth is not a checkpoint of tensors.*was not opened") as error:
        read_checkpoint(path)
    assert "weights_only=False" in str(error.value) and not (tmp_path / "ran").exists()
    with path.open("rb") as file:
        torch.load(file, weights_only=False)  # the trap is live
    assert (tmp_path / "ran").exists()


def test_the_loader_of_mmengine_is_this_one_for_every_scheme(tmp_path):
    assert {loader.__module__ for loader in CheckpointLoader._schemes.values()} == {module.__name__}
    path = tmp_path / "iter_1.pth"
    torch.save({"state_dict": {}, "x": Bomb(tmp_path / "ran")}, path)
    with pytest.raises(UserError, match="was not opened"):
        CheckpointLoader.load_checkpoint(str(path))
    with pytest.raises(UserError, match="was not opened"):
        load_checkpoint(nn.Linear(1, 1), str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("scheme", ["s3", "petrel", "pavi", "mmcls", "file"])
def test_schemes_that_are_not_supported(scheme):
    with pytest.raises(UserError, match=rf"the scheme {scheme}:// is not supported"):
        CheckpointLoader.load_checkpoint(f"{scheme}://bucket/model.pth")


def test_an_address_is_read_with_weights_only(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch.hub, "load_state_dict_from_url", lambda url, **options: asked.append((url, options)) or {}
    )
    read_checkpoint("https://example.org/w.pth", "cpu")
    read_checkpoint("open-mmlab://resnet50_v1c")
    assert [url.rpartition("/")[2].partition("-")[0] for url, _ in asked] == ["w.pth", "resnet50_v1c"]
    assert all(url.startswith("https://") and options["weights_only"] is True for url, options in asked)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (urllib.error.URLError("no route"), "cannot be downloaded .*no route"),
        (pickle.UnpicklingError("Weights only load failed"), "was not opened"),
    ],
)
def test_an_address_that_gives_no_weights(monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(UserError, match=rf"https://example\.org/w\.pth .*{message}"):
        read_checkpoint("https://example.org/w.pth")


def test_a_model_name_that_is_not_known():
    with pytest.raises(UserError, match="no such model; did you mean .*resnet50_v1c"):
        read_checkpoint("open-mmlab://resnet50_v1")


def test_torchvision_that_cannot_be_imported(monkeypatch):
    def fail():
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(checkpoint_address, "get_torchvision_models", fail)
    with pytest.raises(UserError, match=r"torchvision://resnet18: torchvision cannot be imported \(operator"):
        read_checkpoint("torchvision://resnet18")


@pytest.mark.parametrize("kept", [0, 1, 4, 100, 0.5, -1])
def test_a_file_cut_short(tmp_path, kept):
    path = tmp_path / "iter_1.pth"
    write_checkpoint(CHECKPOINT, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"iter_1\.pth (cannot be read|is not a checkpoint)"):
        read_checkpoint(path)


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.full)])
def test_a_flipped_bit_is_found_wherever_it_matters(tmp_path, step):
    """A file is refused, or reads as what was written."""
    path = tmp_path / "iter_1.pth"
    write_checkpoint(CHECKPOINT, path)
    content, refused = path.read_bytes(), 0
    for place in range(0, 8 * len(content), step):
        byte, bit = divmod(place, 8)
        path.write_bytes(content[:byte] + bytes([content[byte] ^ 1 << bit]) + content[byte + 1 :])
        try:
            assert_same(read_checkpoint(path), CHECKPOINT)
        except UserError as error:
            assert "iter_1.pth" in str(error)
            refused += 1
    weights = content.index(CHECKPOINT["state_dict"]["weight"].numpy().tobytes())
    path.write_bytes(content[:weights] + b"\x01" + content[weights + 1 :])
    with pytest.raises(UserError, match="wrong checksum of .*damaged"):
        read_checkpoint(path)
    assert refused > 20


def test_a_file_whose_records_claim_more_than_it_has(tmp_path):
    path = tmp_path / "iter_1.pth"
    write_checkpoint({"state_dict": {"weight": torch.zeros(100_000)}}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as small:
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    with pytest.raises(UserError, match="records claim more bytes"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}, "meta": ["iter", 3]}, "meta is a list, expected a mapping"),
        ({"state_dict": {}, "connectors": None}, "connectors is a NoneType, expected a mapping"),
        ({"state_dict": {"a": torch.ones(2).to_sparse()}}, "state_dict.a: .* expected a dense tensor"),
        ({"state_dict": {"a": torch.ones(2, device="meta")}}, "state_dict.a: .* expected a dense tensor"),
        ({"state_dict": {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}}, "state_dict.a: "),
    ],
)
def test_odd_content(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"w\.pth: {message}"):
        read_checkpoint(tmp_path / "w.pth")


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_weights_that_are_not_finite(odd, dtype):
    """But where the model has such from the start, and an expanded tensor takes no memory for its check."""
    module = nn.Module()
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    module.register_buffer("scale", torch.zeros(2, 3, dtype=dtype))
    good = {"mask": torch.tensor([0.0, -torch.inf]), "scale": torch.ones((), dtype=dtype).expand(2, 3)}
    load_weights(module, good, "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: NaN or infinite numbers in scale\. .*take an earlier one"):
        load_weights(module, {**good, "scale": torch.full((2, 3), odd, dtype=dtype)}, "a.pth")
    assert module.scale.real.min() == 1


@pytest.mark.parametrize("content", [b"<html>404</html>", b"0.", b"h\x01.", b"(lp0\n.", b"]q\x00.", b"\x80\x02}."])
def test_other_content(tmp_path, content):
    """Text, and what makes PyTorch's restricted unpickler fail in its own ways."""
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.pth"):
        read_checkpoint(tmp_path / "w.pth")


def test_another_object(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth holds a list, expected a checkpoint"):
        read_checkpoint(tmp_path / "list.pth")


def test_another_object_in_the_place_of_the_weights(tmp_path):
    torch.save({"state_dict": [torch.ones(1)], "meta": {}}, tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth holds a list as its state_dict, expected a checkpoint"):
        read_checkpoint(tmp_path / "list.pth")


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"state_dict": weights}])
def test_a_file_with_names_that_are_no_text(tmp_path, wrap):
    torch.save(wrap({"a": torch.ones(1), 3: torch.ones(1)}), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth holds 1 entries whose names are no text \(3\), expected a checkpoint"):
        read_checkpoint(tmp_path / "w.pth")


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(UserError, match=f"checkpoint not found: {path}"):
            read_checkpoint(path)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    path = tmp_path / "iter_3.pth"
    write_checkpoint(CHECKPOINT, path)

    def half(_, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(UserError, match=rf"cannot write {path}: .*{error.args[-1]}.*disk space"):
        write_checkpoint({"state_dict": {}}, path)
    assert os.listdir(tmp_path) == ["iter_3.pth"]
    assert_same(read_checkpoint(path), CHECKPOINT)


@pytest.mark.parametrize("error", [KeyboardInterrupt, TypeError])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, error):
    def stop(_, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", stop)
    with pytest.raises(error):
        write_checkpoint({"state_dict": {}}, tmp_path / "iter_3.pth")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*run/iter_1\.pth"):
        write_checkpoint(CHECKPOINT, tmp_path / "run" / "iter_1.pth")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_the_last_checkpoint_is_the_largest_number(tmp_path):
    touch(tmp_path, "iter_900.pth", "iter_4000.pth", "iter_12000.pth", "best_mDice_iter_20000.pth", "iter_x.pth")
    touch(tmp_path, "iter_99999.pth.tmp", ".iter_99999.pth", "last_checkpoint")
    assert last_checkpoint(tmp_path) == resolve_checkpoint(tmp_path) == tmp_path / "iter_12000.pth"
    assert best_checkpoint(tmp_path) == tmp_path / "best_mDice_iter_20000.pth"
    assert resolve_checkpoint(tmp_path / "iter_900.pth") == tmp_path / "iter_900.pth"


def test_a_run_without_checkpoints(tmp_path):
    assert last_checkpoint(tmp_path) is best_checkpoint(tmp_path) is last_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize("name", ["fcn_r18_d8_40k_synapse", "fcn_r18_d8_40k_synapse/iter_40000.pth"])
def test_the_error_names_the_command_that_trains_the_run(tmp_path, root, monkeypatch, name):
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match="is not there") as error:
        resolve_checkpoint(tmp_path / name)
    assert "\n    python train.py configs/fcn/fcn_r18_d8_40k_synapse.py\n" in str(error.value)


def test_the_error_without_a_known_config(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match=r"mine holds no iter_<N>\.pth.*\n    python train\.py <the config mine\.py>"):
        resolve_checkpoint(tmp_path / "mine")


def test_load_weights():
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    load_weights(target, {f"module.{key}": value for key, value in source.state_dict().items()}, "a.pth")
    assert torch.equal(source.weight, target.weight) and torch.equal(source.bias, target.bias)


def test_weights_that_do_not_fit_are_listed_and_none_is_loaded():
    target = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    before = target[0].bias.clone()
    given = {
        "0.weight": torch.ones(4, 3),
        "0.bias": torch.ones(2),
        "1.weight": torch.ones(2, 2),
        "head.bias": torch.ones(1),
    }
    with pytest.raises(UserError) as error:
        load_weights(target, given, "work_dirs/a/iter_5.pth")
    assert str(error.value).splitlines() == [
        "work_dirs/a/iter_5.pth does not fit Sequential: its weights belong to another network or config.",
        "  1 missing in the checkpoint: 1.bias",
        "  1 not in the model: head.bias",
        "  1 of another shape: 0.weight: checkpoint (4, 3), model (2, 3)",
    ]
    assert torch.equal(target[0].bias, before)


class Numbers(nn.Module):
    """Weights of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.floating = nn.Parameter(torch.zeros(2))
        self.register_buffer("integer", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("boolean", torch.zeros(2, dtype=torch.bool))
        self.register_buffer("complex", torch.zeros(2, dtype=torch.complex64))


KINDS = {
    "floating": (torch.float32, torch.float16, torch.bfloat16, torch.float64),
    "integer": (torch.int64, torch.int32, torch.uint8),
    "boolean": (torch.bool,),
    "complex": (torch.complex64, torch.complex128),
}


@pytest.mark.parametrize("own", KINDS)
@pytest.mark.parametrize("given", KINDS)
def test_numbers_may_be_of_another_precision_but_not_of_another_kind(own, given):
    for dtype in KINDS[given]:
        target = Numbers()
        weights = {**target.state_dict(), own: torch.ones(2, dtype=dtype)}
        if own == given:
            load_weights(target, weights, "a.pth")
            assert target.state_dict()[own].tolist() == [1, 1]
            continue
        with pytest.raises(UserError) as error:
            load_weights(target, weights, "a.pth")
        found, expected = (str(one).removeprefix("torch.") for one in (dtype, KINDS[own][0]))
        told = f"  1 of another type: {own}: checkpoint {found}, model {expected}"
        assert str(error.value).splitlines()[1:] == [told]
        assert not target.state_dict()[own].any()


@pytest.mark.parametrize(("value", "name"), [(1.0, "float"), ([1.0, 1.0], "list"), ("ones", "str"), (None, "NoneType")])
def test_what_is_no_tensor_is_no_weight(value, name):
    target = nn.Linear(1, 2)
    before = target.weight.clone()
    with pytest.raises(UserError, match=rf"1 of another type: bias: checkpoint {name}, model float32$"):
        load_weights(target, {"weight": torch.ones(2, 1), "bias": value}, "a.pth")
    assert torch.equal(target.weight, before)


def test_names_that_are_no_text():
    weights = {**nn.Linear(1, 2).state_dict(), 3: torch.ones(1), ("a", 1): torch.ones(1)}
    with pytest.raises(UserError) as error:
        load_weights(nn.Linear(1, 2), weights, "a.pth")
    assert str(error.value).splitlines()[1:] == [
        "  2 not in the model: 3, which is no text, ('a', 1), which is no text"
    ]


def test_an_auxiliary_head_may_be_absent_as_a_whole():
    """The rest is loaded; part of it, or another layer, is missed."""
    parts = {"head": nn.Linear(3, 2), "auxiliary_head": nn.Linear(3, 2)}
    target, before = nn.Sequential(nn.ModuleDict(parts)), parts["auxiliary_head"].weight.clone()
    given = {"0.head.weight": torch.ones(2, 3), "0.head.bias": torch.ones(2)}
    load_weights(target, given, "a.pth")
    assert torch.equal(parts["head"].weight, torch.ones(2, 3))
    assert torch.equal(parts["auxiliary_head"].weight, before)
    with pytest.raises(UserError, match=r"1 missing in the checkpoint: 0\.auxiliary_head\.weight"):
        load_weights(target, {**given, "0.auxiliary_head.bias": torch.ones(2)}, "a.pth")
    with pytest.raises(UserError, match=r"1 missing in the checkpoint: 0\.head\.bias"):
        load_weights(target, {"0.head.weight": torch.ones(2, 3)}, "a.pth")


def test_long_lists_are_cut():
    with pytest.raises(UserError) as error:
        load_weights(nn.Identity(), {f"layer{i}": torch.ones(1) for i in range(20)}, "a.pth")
    assert "20 not in the model" in str(error.value) and "and 16 more" in str(error.value)
    assert "layer3" in str(error.value) and "layer4" not in str(error.value)
