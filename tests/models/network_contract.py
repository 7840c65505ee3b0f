"""What every network must do; a network's own test derives from it in a few lines."""

from typing import Any, ClassVar

import pytest
import torch

from medseg_kd.registry import MODELS


class NetworkContract:
    """Derive, set ``network`` (a config) and ``reduction`` (input over logits size), and the tests run."""

    network: ClassVar[dict[str, Any]]
    outputs_in_training = 1
    reduction = 1

    @pytest.fixture(scope="class")
    def net(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return MODELS.build(self.network)

    @pytest.mark.parametrize("size", [(64, 64), (96, 64), (50, 61)])
    def test_logits_have_the_promised_size(self, net, size):
        with torch.no_grad():
            logits = net.eval()(torch.rand(2, 1, *size))
        assert logits.shape == (2, self.network["num_classes"], *(-(-side // self.reduction) for side in size))

    def test_every_parameter_gets_a_gradient(self, net):
        outputs = net.train()(torch.rand(2, 1, 64, 64))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert len(outputs) == self.outputs_in_training
        sum((output**2).mean() for output in outputs).backward()
        assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    def test_feature_info_tells_the_truth(self, net):
        shapes = {}
        modules = dict(net.named_modules())
        handles = [
            modules[stage["module"]].register_forward_hook(
                lambda _, __, out, name=stage["module"]: shapes.update({name: out.shape})
            )
            for stage in net.feature_info
        ]
        with torch.no_grad():
            net.eval()(torch.rand(1, 1, 64, 64))
        for handle in handles:
            handle.remove()
        told = {s["module"]: (1, s["channels"], 64 // s["reduction"], 64 // s["reduction"]) for s in net.feature_info}
        assert shapes == told

    def test_evaluation_is_deterministic_and_batch_independent(self, net):
        x = torch.rand(2, 1, 64, 64)
        with torch.no_grad():
            together = net.eval()(x)
            alone = torch.cat([net(x[:1]), net(x[1:])])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)

    def test_state_dict_round_trip(self, net):
        other = MODELS.build(self.network)
        other.load_state_dict(net.state_dict())
        x = torch.rand(1, 1, 64, 64)
        with torch.no_grad():
            assert torch.equal(net.eval()(x), other.eval()(x))
