"""What every network must do; a network's own test derives from it in a few lines."""

import copy
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from medseg_kd.errors import UserError
from medseg_kd.registry import MODELS


def without_values(config: dict[str, Any]) -> nn.Module:
    """The network or model of a config, its parameters without memory."""
    with torch.device("meta"):
        return MODELS.build(config)


GRAPHS = [(True, None), *(pytest.param(training, True, marks=pytest.mark.full) for training in (False, True))]
"""Training or not, of any size or not; that the export takes all sizes is always seen."""


class NetworkContract:
    """Derive, set ``network`` (a config) and ``reduction`` (input over logits size), and the tests run."""

    network: ClassVar[dict[str, Any]]
    outputs_in_training = 1
    reduction = 1

    @pytest.fixture(scope="class")
    def net(self) -> nn.Module:
        torch.manual_seed(0)
        return MODELS.build(self.network)

    def _divisor(self, net: nn.Module) -> int:
        return getattr(net, "size_divisor", 1)

    def test_logits_have_the_promised_size(self, net):
        sizes = [(64, 64), (96, 64)] + ([(50, 61)] if self._divisor(net) == 1 else [])
        for size in sizes:
            with torch.no_grad():
                logits = net.eval()(torch.rand(2, 1, *size))
            assert logits.shape == (2, self.network["num_classes"], *(-(-side // self.reduction) for side in size))

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_any_number_of_input_channels(self, channels):
        torch.manual_seed(0)
        net = MODELS.build({**self.network, "in_channels": channels})
        assert type(net.in_channels) is int and net.in_channels == channels
        x = torch.rand(2, channels, 64, 64, requires_grad=True)
        outputs = net.train()(x)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        sum((output**2).mean() for output in outputs).backward()
        assert all(p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)
        assert x.grad.abs().amax((0, 2, 3)).min() > 0, "a channel that makes no difference"
        _assert_feature_info(net, channels)

    def test_another_number_of_channels_is_refused_in_one_line(self, net):
        with pytest.raises(UserError, match=r"takes 1 input channels, but got 4 .*\(2, 4, 64, 64\)") as error:
            net(torch.rand(2, 4, 64, 64))
        assert "\n" not in str(error.value)

    def test_a_size_that_does_not_fit_is_refused_in_one_line(self, net):
        divisor = self._divisor(net)
        if divisor > 1:
            with pytest.raises(UserError, match=f"multiples of {divisor}, but got 250x64; nearest: .*256x64") as error:
                net(torch.rand(1, 1, 250, 64))
            assert "\n" not in str(error.value)

    def test_every_parameter_gets_a_gradient(self, net):
        outputs = net.train()(torch.rand(2, 1, 64, 64))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert len(outputs) == self.outputs_in_training
        sum((output**2).mean() for output in outputs).backward()
        trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        assert [name for name, p in trained if p.grad is None or not p.grad.isfinite().all()] == []

    def test_feature_info_tells_the_truth(self, net):
        _assert_feature_info(net, channels=1)

    def test_evaluation_is_deterministic_and_batch_independent(self, net):
        x = torch.rand(2, 1, 64, 64)
        with torch.no_grad():
            together = net.eval()(x)
            alone = torch.cat([net(x[:1]), net(x[1:])])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)

    def test_bf16_autocast_is_finite(self, net):
        with torch.autocast("cpu", torch.bfloat16):
            outputs = net.train()(torch.rand(2, 1, 64, 64))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        net.zero_grad()
        sum((output.float() ** 2).mean() for output in outputs).backward()
        assert all(output.isfinite().all() for output in outputs)
        assert all(p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)

    def test_channels_last_gives_the_same(self, net):
        x = torch.rand(2, 1, 64, 64)
        other = copy.deepcopy(net).to(memory_format=torch.channels_last)
        with torch.no_grad():
            _assert_alike(other.eval()(x.to(memory_format=torch.channels_last)), net.eval()(x))

    @pytest.mark.parametrize(("training", "dynamic"), GRAPHS)
    def test_it_compiles_without_graph_break(self, net, training, dynamic):
        torch._dynamo.reset()
        x = torch.rand(2, 1, 64, 96)
        compiled = torch.compile(copy.deepcopy(net).train(training), fullgraph=True, backend="eager", dynamic=dynamic)
        with torch.set_grad_enabled(training):
            outputs = compiled(x)
        if not training:
            with torch.no_grad():
                _assert_alike(outputs, net.eval()(x))

    def test_the_exported_network_takes_every_size(self, net, tmp_path):
        divisor, file = self._divisor(net), str(tmp_path / "net.onnx")
        batch, rows, columns = (torch.export.Dim(name) for name in ("batch", "rows", "columns"))
        sizes = {2: divisor * rows, 3: divisor * columns} if divisor > 1 else {2: rows, 3: columns}
        torch.onnx.export(
            net.eval(),
            (torch.rand(2, 1, 64, 96),),
            file,
            dynamo=True,
            dynamic_shapes=({0: batch, **sizes},),
            verbose=False,
        )
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for shape in ((2, 1, 64, 96), (3, 1, 128, 64)):
            x = torch.rand(shape)
            (given,) = session.run(None, {session.get_inputs()[0].name: x.numpy().astype(np.float32)})
            with torch.no_grad():
                _assert_alike(torch.from_numpy(given), net(x))

    def test_state_dict_round_trip(self, net):
        other = MODELS.build(self.network)
        other.load_state_dict(net.state_dict())
        x = torch.rand(1, 1, 64, 64)
        with torch.no_grad():
            assert torch.equal(net.eval()(x), other.eval()(x))


class VariantContract(NetworkContract):
    """For other settings of a network whose graphs are looked at already: theirs, only where all is asked for."""

    @pytest.mark.full
    @pytest.mark.parametrize(("training", "dynamic"), GRAPHS)
    def test_it_compiles_without_graph_break(self, net, training, dynamic):
        super().test_it_compiles_without_graph_break(net, training, dynamic)

    @pytest.mark.full
    def test_the_exported_network_takes_every_size(self, net, tmp_path):
        super().test_the_exported_network_takes_every_size(net, tmp_path)


def _assert_feature_info(net: nn.Module, channels: int) -> None:
    """What the network says of its stages is what a forward pass gives."""
    shapes = {}
    modules = dict(net.named_modules())
    handles = [
        modules[stage["module"]].register_forward_hook(
            lambda _, __, out, name=stage["module"]: shapes.update({name: out.shape})
        )
        for stage in net.feature_info
    ]
    with torch.no_grad():
        net.eval()(torch.rand(1, channels, 64, 128))
    for handle in handles:
        handle.remove()
    told = {s["module"]: (1, s["channels"], 64 // s["reduction"], 128 // s["reduction"]) for s in net.feature_info}
    assert shapes == told


def _assert_alike(given: Tensor, wanted: Tensor) -> None:
    """Equal to 1e-4 of the logits' range."""
    span = float(wanted.max() - wanted.min())
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-4 * span)
