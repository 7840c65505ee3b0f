"""Plain containers."""

import io

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub

from medseg_kd.engine.plain import message_hub_from_plain, to_plain


def _round_trip(value):
    buffer = io.BytesIO()
    torch.save(to_plain(value), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_numpy_becomes_plain():
    value = {"a": np.float64(0.5), "b": np.int64(3), "c": np.arange(2), "d": (None, True, "x", [torch.ones(1)])}
    plain = _round_trip(value)
    assert (type(plain["a"]), type(plain["b"]), plain["c"]) == (float, int, [0, 1])
    assert plain["d"][:3] == (None, True, "x")


def test_the_message_hub_comes_back():
    hub = MessageHub("plain_before")
    for value in (1.0, 2.0, 4.0):
        hub.update_scalar("train/loss", value)
    hub.update_info("eta", np.float64(3.0))
    other = MessageHub("plain_after")
    other.load_state_dict(message_hub_from_plain(_round_trip(hub.state_dict())))
    assert other.get_scalar("train/loss").mean() == pytest.approx(7 / 3)
    assert other.get_info("eta") == 3.0


def test_any_other_object_is_named():
    with pytest.raises(TypeError, match=r"checkpoint\.meta\[1\] is a set"):
        to_plain({"meta": [1, {2}]})
