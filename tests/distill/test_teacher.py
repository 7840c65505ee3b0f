"""How a teacher runs: its precision, and its compiled forward pass with recorders inside."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from pairs import Plain, batch, plain, segmentor
from torch import nn
from torch._dynamo.testing import CompileCounter

from medseg_kd.configuration import read_config
from medseg_kd.distill import AT, CWD, KD, MultiTeacherDistill, SingleTeacherDistill
from medseg_kd.distill.recorders import build_recorders
from medseg_kd.distill.teacher import Teacher
from medseg_kd.errors import UserError
from medseg_kd.models import FCN, UNet
from medseg_kd.registry import MODELS

METHODS = {"logits": {"type": KD}, "stages": {"type": AT}, "a stage": {"type": CWD, "stage": -1}}


class Broken(Plain):
    """A network that cannot be compiled in one piece."""

    def forward(self, x):
        x = self.second(self.first(x))
        torch._dynamo.graph_break()
        return self.last(self.second(x))


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    torch._dynamo.reset()


@pytest.mark.parametrize(("precision", "outside", "expected"), [
    ("bf16", None, torch.bfloat16),
    ("fp32", torch.bfloat16, torch.float32),
    (torch.float16, torch.bfloat16, torch.float16),
    (None, torch.bfloat16, torch.bfloat16),
    ("auto", torch.bfloat16, torch.bfloat16),
    ("auto", None, torch.float32),
])  # fmt: skip
def test_precision(precision, outside, expected):
    teacher = Teacher(plain(), dtype=precision)
    with torch.autocast("cpu", outside or torch.bfloat16, enabled=outside is not None):
        logits = teacher(batch()[0])
    assert logits.dtype == expected and not logits.requires_grad


def test_auto_is_what_a_gpu_does_natively(monkeypatch):
    """The CPU is left to its surroundings, whatever it does natively."""
    native = {}
    monkeypatch.setattr("medseg_kd.distill.teacher.native_dtype", lambda device: native[device.type])
    for dtype in (torch.bfloat16, torch.float16):
        native.update(cuda=dtype, cpu=dtype)
        context = Teacher(plain()).precision(torch.device("cuda"))
        assert (context.device, context.fast_dtype) == ("cuda", dtype)
        assert not isinstance(Teacher(plain()).precision(torch.device("cpu")), torch.autocast)
    native["cuda"] = torch.float32
    assert not isinstance(Teacher(plain()).precision(torch.device("cuda")), torch.autocast)


@pytest.mark.parametrize("meta", [{"iter": 3, "spec": "x"}, {}])
def test_what_the_checkpoint_says_of_itself_is_kept(meta, tmp_path):
    torch.save({"state_dict": MODELS.build(plain()).state_dict(), "meta": meta}, tmp_path / "iter_3.pth")
    teacher = Teacher(plain(), str(tmp_path))
    assert teacher.checkpoint_meta == {}
    teacher.load()
    assert teacher.checkpoint_meta == meta


@pytest.mark.parametrize("meta", ["odd", None])
def test_a_checkpoint_that_says_nothing_sensible_of_itself_is_refused(meta, tmp_path):
    torch.save({"state_dict": MODELS.build(plain()).state_dict(), "meta": meta}, tmp_path / "iter_3.pth")
    with pytest.raises(UserError, match="meta is a .*, expected a mapping"):
        Teacher(plain(), str(tmp_path)).load()


@pytest.mark.parametrize("method", METHODS)
def test_a_compiled_teacher_gives_what_it_gives_otherwise(method):
    """Compiled once (and once more for sizes that vary), with the recorders' hooks inside."""
    counter = CompileCounter()
    student, teacher = MODELS.build(segmentor(dropout_ratio=0.0)), MODELS.build(segmentor(FCN, width=6))
    plainly = SingleTeacherDistill(deepcopy(student), teacher, METHODS[method])
    compiled = SingleTeacherDistill(student, teacher, METHODS[method], teacher_compile={"backend": counter})
    compiled.distiller.load_state_dict(plainly.distiller.state_dict())
    for size in ((32, 32), (32, 32), (48, 64), (64, 48)):
        losses, expected = ({k: v.item() for k, v in a(*batch(size), mode="loss").items()} for a in (compiled, plainly))
        assert losses == pytest.approx(expected, rel=1e-5)
    assert counter.frame_count == 2


def test_a_network_that_breaks_into_pieces():
    config = {**plain(), "network": Broken()}
    teacher = Teacher(config, compiled={"backend": "eager"})
    sources = {name: {"type": "ModuleOutputs", "source": f"network.{name}"} for name in ("first", "second", "last")}
    recorders = build_recorders(sources, teacher.model)
    for _ in range(3):
        with recorders.recording():
            teacher(batch()[0])
        found = {name: [record.clone() for record in each.records] for name, each in recorders.recorders.items()}
        with recorders.recording(), torch.no_grad():
            teacher.model.network(batch()[0])
        for name, each in recorders.recorders.items():
            assert len(found[name]) == len(each.records) == (2 if name == "second" else 1)
            torch.testing.assert_close(found[name], each.records)


@pytest.mark.parametrize("combine", ["mean", "each"])
def test_several_compiled_teachers(combine):
    entries = [{"model": MODELS.build(segmentor(kind, width=6))} for kind in (UNet, FCN)]
    student = MODELS.build(segmentor(dropout_ratio=0.0))
    counter = CompileCounter()
    both = [
        MultiTeacherDistill(deepcopy(student), entries, {"type": KD}, combine, teacher_compile=compiled)
        for compiled in (False, {"backend": counter})
    ]
    for _ in range(2):
        expected, losses = ({k: v.item() for k, v in each(*batch(), mode="loss").items()} for each in both)
        assert losses == pytest.approx(expected, rel=1e-5)
    assert counter.frame_count == 2


def test_wrong_options_of_compile_are_refused():
    with pytest.raises(UserError, match="teacher_compile={'mod': 'max-autotune'}.*mode"):
        Teacher(plain(), compiled={"mod": "max-autotune"})


@pytest.mark.parametrize("network", ["unet/unet_r50_s4_d8_40k", "medical_seg/transunet_40k", "medical_seg/mednext_40k"])
def test_weights_that_are_cast_once_compute_the_same(network: str) -> None:
    """To the bit what autocast computes, which casts them in every step; with group norms too as near to float32."""
    model = read_config(f"configs/{network}_synapse.py").model
    model.num_classes = 9
    torch.manual_seed(0)
    teacher = Teacher(model, dtype="bf16")
    teacher.watch(SimpleNamespace(recorders={}))
    uncast = deepcopy(teacher)
    torch.manual_seed(1)
    teacher.load()
    torch.manual_seed(1)
    uncast.model.init_weights()
    uncast._is_ready = True
    assert {each.weight.dtype for each in teacher.model.modules() if type(each) is nn.Conv2d} == {torch.bfloat16}
    x = torch.rand(1, 1, 64, 64)
    found, expected = teacher(x), uncast(x)
    if "transunet" not in network:
        assert torch.equal(found, expected)
        return
    uncast._dtype = torch.float32
    exact = uncast(x)
    assert 0 < (found - exact).norm() < 1.1 * (expected - exact).norm()
