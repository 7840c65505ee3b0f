"""Checkpoints that are damaged, of another kind or hostile, tested, resumed from and loaded."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.bad_inputs.case import Case, home_of


class Hostile:
    """Writes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def _saved(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Write what a change makes of the checkpoint of the run; a change that gives no container changes it in place."""

    def write(path: Path) -> None:
        checkpoint = torch.load(home_of(path) / "run/iter_2.pth", weights_only=True)
        made = change(checkpoint)
        torch.save(made if isinstance(made, (dict, list)) else checkpoint, path)

    return write


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change((home_of(path) / "run/iter_2.pth").read_bytes())) and None


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Hostile())
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.array([Hostile()], dtype=object))


def _first(weights: dict[str, Any]) -> str:
    return next(iter(weights))


def _set(*keys: Any, value: Any) -> Callable[[Path], None]:
    """Put a value at a place of the checkpoint."""

    def change(checkpoint: dict[str, Any]) -> None:
        node: Any = checkpoint
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return _saved(change)


_ANY = {
    "a list": (_saved(lambda _: [1]), "holds a list"),
    "nothing": (_saved(lambda _: {"state_dict": None}), "holds a NoneType as its state_dict"),
    "weights in a list": (_set("state_dict", value=[1]), "holds a list as its state_dict"),
    "numbers as names": (_set("state_dict", value={1: torch.zeros(1)}), "names are no text"),
    "text as weights": (_saved(lambda c: {"state_dict": dict.fromkeys(c["state_dict"], "x")}), "of another type"),
    "no weights": (_set("state_dict", value={}), "missing in the checkpoint"),
    "meta as list": (_set("meta", value=[1]), "meta is a list"),
    "an odd spec": (_set("meta", "spec", value={"a": 1}), "spec"),
    "NaN": (_saved(lambda c: c["state_dict"][_first(c["state_dict"])].fill_(float("nan")) is None), "NaN"),
    "another shape": (
        _saved(lambda c: c["state_dict"].update({_first(c["state_dict"]): torch.zeros(1)})),
        "of another shape",
    ),
    "another key": (_set("state_dict", "zzz", value=torch.zeros(1)), "not in the model: zzz"),
    "sparse": (
        _saved(lambda c: c["state_dict"].update({_first(c["state_dict"]): torch.eye(3).to_sparse()})),
        "expected a dense tensor",
    ),
    "half a file": (_bytes(lambda data: data[: len(data) // 2]), "cannot be read as a checkpoint"),
    "a flipped byte": (_bytes(lambda data: data[:5000] + bytes([data[5000] ^ 255]) + data[5001:]), "odd.pth"),
    "an empty file": (_bytes(lambda _: b""), "odd.pth"),
    "a text": (_bytes(lambda _: b"hello\n" * 100), "odd.pth"),
    "safetensors": (_bytes(lambda _: (2).to_bytes(8, "little") + b"{}"), "odd.pth"),
    "hostile": (_saved(lambda _: {"state_dict": Hostile()}), "could run code hidden in it"),
    "hostile meta": (_set("meta", value={"x": Hostile()}), "could run code hidden in it"),
    "a hostile pickle": (_bytes(lambda _: pickle.dumps(Hostile())), "could run code hidden in it"),
    "a hostile tar": (_tar, "odd.pth"),
    "a hostile npz": (_npz, "odd.pth"),
}
_TRAINING = {
    "iteration as text": (_set("meta", "iter", value="x"), "meta.iter is a str"),
    "iteration below 0": (_set("meta", "iter", value=-3), "meta.iter is -3"),
    "seed as text": (_set("meta", "seed", value="x"), "meta.seed is a str"),
    "hub as list": (_set("message_hub", value=[1]), "message_hub is a list"),
    "scalars as number": (_set("message_hub", "log_scalars", value=3), "message_hub.log_scalars is a int"),
    "optimizer as list": (_set("optimizer", value=[1]), "optimizer is a list"),
    "groups as number": (_set("optimizer", "param_groups", value=3), "optimizer.param_groups is a int"),
    "schedules as number": (_set("param_schedulers", value=3), "param_schedulers is not a list"),
    "no optimizer": (_saved(lambda c: c.pop("optimizer") is None), "holds weights but no optimizer state"),
}


def _folder(write: Callable[[Path], None]) -> Callable[[Path], None]:
    """A run folder whose only checkpoint is such a one."""

    def make(path: Path) -> None:
        path.mkdir()
        write(path / "iter_2.pth")

    return make


_RESUMED = {**_TRAINING, **{name: _ANY[name] for name in ("a list", "NaN", "half a file", "hostile meta")}}
_LOADED = ("a list", "NaN", "half a file", "hostile", "a hostile npz")
_RESUME = ("base.py", "--work-dir", "again", "--resume", "--cfg-options", "train_cfg.max_iters=3")
CHECKPOINTS = [
    *(Case(f"test {n}", "test.py", ("base.py", "odd.pth"), (w,), {"odd.pth": f}) for n, (f, w) in _ANY.items()),
    *(
        Case(f"resume {name}", "train.py", _RESUME, (words, "iter_2.pth"), {"again": _folder(write)})
        for name, (write, words) in _RESUMED.items()
    ),
    *(
        Case(f"{what} {name}", script, arguments, (_ANY[name][1], "odd.pth"), {"odd.pth": _ANY[name][0]})
        for what, script, arguments in (
            ("load_from", "train.py", ("base.py", "--cfg-options", "load_from=odd.pth")),
            ("teacher", "train.py", ("pair.py", "--cfg-options", "model.teacher_ckpt=odd.pth")),
            ("predict", "tools/predict.py", ("odd.pth", "base.py", "--out", "out")),
        )
        for name in _LOADED
        if (what, name) != ("predict", "NaN")
    ),
]
