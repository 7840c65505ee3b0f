"""Which number format a device takes, told what its hardware has."""

import contextlib

import pytest
import torch

from medseg_kd.models.precision import native_dtype, native_dtype_reason


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_tile": True, "amx_bf16": True}, torch.bfloat16),
        ({"architecture": "aarch64", "neon": True, "bf16": True}, torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, torch.float32),
        ({"architecture": "aarch64", "neon": True}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bf16_where_it_has_instructions(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert native_dtype("cpu") is expected
    assert native_dtype_reason("cpu").startswith(str(expected).removeprefix("torch.") + ": this processor has ")


@pytest.mark.parametrize(("has", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_an_older_pytorch_tells_of_avx512_alone(has, expected, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has, raising=False)
    assert native_dtype("cpu") is expected


@pytest.mark.parametrize(
    ("native", "line"),
    [(True, "bfloat16: Card 9 computes in bfloat16"), (False, "float16: Card 9 has no bfloat16 of its own")],
)
def test_a_gpu_that_emulates_bf16_takes_fp16(native, line, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card 9")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert native_dtype("cuda:0") is (torch.bfloat16 if native else torch.float16)
    assert native_dtype_reason("cuda:0") == line


def test_an_unknown_device_stays_with_float32():
    assert native_dtype("meta") is torch.float32
    assert native_dtype_reason(torch.device("meta")) == "float32: no lower precision is known to be native on meta"
