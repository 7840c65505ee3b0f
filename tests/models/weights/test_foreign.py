"""Other projects' files: their tensors come out, and nothing in them runs."""

import argparse
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

from medseg_kd.errors import UserError
from medseg_kd.models.checkpoint import read_checkpoint
from medseg_kd.models.placeholders import Placeholder
from medseg_kd.models.weights.foreign import read_foreign

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "conv.bias": torch.nn.Parameter(torch.ones(2).half())}
FORMATS = pytest.mark.parametrize("old_format", [False, True])


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def save(content: dict, path: Path, old_format: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    return path


def assert_the_weights(state: dict) -> None:
    assert state.keys() == STATE.keys()
    for key, value in STATE.items():
        assert torch.equal(state[key], value) and state[key].dtype == value.dtype


@FORMATS
def test_a_checkpoint_of_mmengines_runner(tmp_path, old_format):
    hub = MessageHub.get_instance("foreign")
    hub.update_scalar("train/loss", 0.5)
    hub.update_info("best_score", np.float64(80))
    hub.update_info("iter", 3)
    content = {"meta": {"cfg": "model = dict()"}, "state_dict": STATE, "message_hub": hub.state_dict()}
    path = save(content, tmp_path / "iter_3.pth", old_format)
    read = read_checkpoint(path)
    assert_the_weights(read["state_dict"])
    assert read["meta"] == content["meta"]
    assert isinstance(read["message_hub"]["log_scalars"]["train/loss"], Placeholder)
    assert read["message_hub"]["runtime_info"]["iter"] == 3


@FORMATS
def test_other_objects_beside_the_weights(tmp_path, old_format):
    content = {"args": argparse.Namespace(lr=0.1), "path": Path("x"), "best": np.float32(1), "x": {1, 2}}
    read = read_foreign(save({"model": STATE, **content}, tmp_path / "w.pth", old_format))
    assert_the_weights(read["state_dict"]["model"])
    assert all(isinstance(read["state_dict"][key], Placeholder) for key in ("args", "path", "best"))


@FORMATS
@pytest.mark.parametrize("function", ["exec", "copy", "touch", "system"])
def test_what_would_run_does_not(tmp_path, old_format, function):
    ran, empty = tmp_path / "ran", tmp_path / "empty"
    empty.touch()
    call = {
        "exec": Call(exec, f"open({str(ran)!r}, 'w').close()"),
        "copy": Call(shutil.copyfile, str(empty), str(ran)),
        "touch": Call(Path.touch, ran),
        "system": Call(os.system, f"touch {ran}"),
    }[function]
    path = save({"state_dict": STATE, "x": call}, tmp_path / "w.pth", old_format)
    if function in ("exec", "copy"):
        read = read_foreign(path)
        assert_the_weights(read["state_dict"])
        assert isinstance(read["x"], Placeholder)
    else:
        with pytest.raises(UserError, match=r"w\.pth is not a checkpoint .*was not opened"):
            read_foreign(path)
    assert not ran.exists()
    with path.open("rb") as file:
        torch.load(file, weights_only=False)  # the trap is live
    assert ran.exists()


def test_the_placeholders_are_gone_afterwards(tmp_path):
    path = save({"state_dict": STATE, "args": argparse.Namespace()}, tmp_path / "w.pth", False)
    before = set(torch.serialization.get_safe_globals())
    read_foreign(path)
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


def test_arrays(tmp_path):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.savez(tmp_path / "w.npz", **{"Transformer/conv/kernel": kernel})
    read = read_foreign(tmp_path / "w.npz")["state_dict"]
    assert torch.equal(read["Transformer/conv/kernel"], torch.from_numpy(kernel))


def test_arrays_of_objects(tmp_path):
    np.savez(tmp_path / "w.npz", x=np.array([Call(Path.touch, tmp_path / "ran")], dtype=object))
    with pytest.raises(UserError, match=r"w\.npz cannot be read as an \.npz of numeric arrays"):
        read_foreign(tmp_path / "w.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.npz"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"0.", b"h\x01.", b"\x80\x02}.", b"PK\x03\x04"])
def test_other_content(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read_foreign(tmp_path / name)


@pytest.mark.parametrize("kept", [0.3, 0.9])
@FORMATS
def test_a_file_cut_short(tmp_path, kept, old_format):
    path = save({"state_dict": {"x": torch.rand(1000)}}, tmp_path / "w.pth", old_format)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"w\.pth"):
        read_foreign(path)


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"not a pickle")
    with pytest.raises(UserError, match=r"w\.pth cannot be read"):
        read_foreign(tmp_path / "w.pth")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="checkpoint not found"):
        read_foreign(tmp_path / "absent.npz")
