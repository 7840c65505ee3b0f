"""Recorders hold what a model computes inside ``with``, and nothing afterwards."""

import gc
import weakref
from copy import deepcopy

import pytest
import torch
from pairs import Plain
from torch import nn

from medseg_kd.distill import Logits, ModuleInputs, ModuleOutputs, Parameter
from medseg_kd.distill.recorders import RecorderManager, build_recorders
from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS

IMAGE = torch.rand(1, 1, 4, 4)


def manager(**recorders) -> tuple[Plain, RecorderManager]:
    model = Plain().eval()
    return model, build_recorders(recorders, model)


def test_outputs_inputs_and_parameters():
    model, found = manager(
        outputs={"type": "ModuleOutputs", "source": "second"},
        inputs={"type": ModuleInputs, "source": "second"},
        weight={"type": Parameter, "sources": "second.weight"},
    )
    with found.recording():
        model(IMAGE)
    first = model.first(IMAGE)
    recorders = found.recorders
    assert torch.equal(recorders["outputs"].get(), model.second(first))
    assert torch.equal(recorders["outputs"].get(record_idx=1), model.second(model.second(first)))
    assert torch.equal(recorders["inputs"].get(record_idx=0, data_idx=0), first)
    assert recorders["weight"].get() is model.second.weight


def test_mmrazor_class_names_build_the_same():
    for kind in (ModuleInputs, ModuleOutputs, Parameter):
        assert MODELS.get(f"{kind.__name__}Recorder") is MODELS.get(kind.__name__) is kind


def test_nothing_is_recorded_outside_and_no_hook_is_added():
    model, found = manager(outputs={"type": "ModuleOutputs", "source": "first"})
    records = lambda: len(found.recorders["outputs"].records)  # noqa: E731
    model(IMAGE)
    assert records() == 0
    for _ in range(2):
        with found.recording():
            model(IMAGE)
        model(IMAGE)
        assert records() == 1
    with pytest.raises(RuntimeError), found.recording():
        model(IMAGE[0, 0, 0])
    model(IMAGE)
    assert records() == 0 and len(model.first._forward_hooks) == 1


def test_a_copy_records_for_itself():
    """Of the model alone it records nothing and does not know the recorder; of both it is another pair."""
    model, found = manager(outputs={"type": "ModuleOutputs", "source": "first"})
    alone, (other, others) = deepcopy(model), deepcopy((model, found))
    assert model.state_dict().keys() == Plain().state_dict().keys() == alone.state_dict().keys()
    with found.recording():
        alone(IMAGE)
        other(IMAGE)
    assert not found.recorders["outputs"].records and not others.recorders["outputs"].records
    with others.recording():
        model(IMAGE)
        other(IMAGE)
    assert len(others.recorders["outputs"].records) == 1 and not found.recorders["outputs"].records


def test_hooks_keep_no_model_alive():
    """No cycle of references: it is freed at once, without the garbage collector."""
    model, found = manager(outputs={"type": "ModuleOutputs", "source": "first"})
    with found.recording():
        model(IMAGE)
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model, found
        assert gone() is None
    finally:
        gc.enable()


def test_a_layer_is_recorded_before_what_is_done_in_place_to_it():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 1), torch.nn.ReLU(inplace=True))
    found = build_recorders({"conv": {"type": "ModuleOutputs", "source": "0"}}, model)
    with found.recording():
        model(IMAGE)
    assert torch.equal(found.recorders["conv"].get(), model[0](IMAGE)) and found.recorders["conv"].get().min() < 0


def test_cleared_features_are_freed():
    model, found = manager(outputs={"type": "ModuleOutputs", "source": "first"})
    with found.recording():
        model(IMAGE)
    feature = weakref.ref(found.recorders["outputs"].get())
    found.clear()
    gc.collect()
    assert feature() is None


def test_logits_that_a_network_stacks_are_its_main_ones():
    """As MONAI's DynUNet does in training, (N, outputs, C, H, W)."""

    class Stacking(nn.Module):
        def forward(self, x):
            return torch.stack([x, 2 * x], dim=1)

    model = nn.Sequential(Stacking())
    found = build_recorders({"logits": {"type": Logits, "source": "0"}}, model)
    with found.recording():
        model(IMAGE)
    assert torch.equal(found.recorders["logits"].get(), IMAGE)


def test_logits_are_the_first_of_several_outputs():
    class Auxiliary(Plain):
        def forward(self, x):
            return super().forward(x), x

    model = torch.nn.ModuleDict({"network": Auxiliary().eval()})
    recorder = Logits(model, "network")
    recorder.start()
    expected = model["network"](IMAGE)[0]
    recorder.stop()
    assert torch.equal(recorder.get(), expected)


@pytest.mark.parametrize(
    ("recorder", "nearest"),
    [
        ({"type": "ModuleOutputs", "source": "secnd"}, "second"),
        ({"type": "Parameter", "source": "last.wight"}, "last.weight"),
    ],
)
def test_unknown_source_names_the_nearest(recorder, nearest):
    with pytest.raises(UserError, match=rf"Plain has no .*{recorder['source']}.*\n    {nearest}"):
        manager(it=recorder)


def test_what_replaces_a_module_is_recorded():
    """SyncBN's conversion, as a distributed run does after the model was built."""

    class Normed(Plain):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(super().forward(x))

    model = torch.nn.ModuleDict({"network": Normed()}).eval()
    sources = {
        "norm": {"type": "ModuleOutputs", "source": "network.norm"},
        "weight": {"type": "Parameter", "source": "network.norm.weight"},
    }
    found = build_recorders(sources, model)
    replaced = model["network"].norm
    torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model["network"].norm.weight = torch.nn.Parameter(torch.full((4,), 3.0))
    with found.recording():
        replaced(expected := model["network"](IMAGE))
    assert torch.equal(found.recorders["norm"].get(), expected)
    assert len(found.recorders["norm"].records) == 1 and not replaced._forward_hooks
    assert found.recorders["weight"].get() is model["network"].norm.weight
    del model["network"].norm
    with pytest.raises(UserError, match="has no module 'network.norm'"), found.recording():
        pass


def test_records_that_do_not_exist():
    model, found = manager(it={"type": "ModuleOutputs", "source": "first"})
    with pytest.raises(UserError, match="holds 0 records"):
        found.recorders["it"].get()
    with found.recording():
        model(IMAGE)
    with pytest.raises(UserError, match="record_idx=1 does not exist"):
        found.recorders["it"].get(record_idx=1)
    with pytest.raises(UserError, match="one Tensor, so data_idx=0"):
        found.recorders["it"].get(data_idx=0)
    with pytest.raises(UserError, match="needs one source"):
        ModuleOutputs(model)
