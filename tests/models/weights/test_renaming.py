"""Tables of names."""

import pytest
import torch

from medseg_kd.errors import UserError
from medseg_kd.models.weights.mednext import convert
from medseg_kd.models.weights.renaming import join, rename


def test_rules_apply_in_their_order_and_what_no_rule_knows_stays():
    state = {"block1.norm.weight": torch.tensor(1.0), "head.bias": torch.tensor(2.0), "dead.bias": torch.tensor(3.0)}
    rules = {r"^block(\d)\.": r"stage.\1.", r"^stage\.1\.norm\.": "norm."}
    assert rename(state, rules, unused={"dead.bias"}) == {"norm.weight": 1, "head.bias": 2}


def test_two_weights_of_one_name_are_refused():
    """None of them wins in silence."""
    with pytest.raises(UserError, match=r"two of the weights are called head\.conv_out\.bias here"):
        convert({"head.conv_out.bias": torch.zeros(1), "out_0.conv_out.bias": torch.ones(1)})


def test_parts_are_joined_in_their_order_and_a_group_with_gaps_stays():
    weights = {
        "b.key.bias": torch.tensor([3.0]),
        "b.query.bias": torch.tensor([1.0, 2.0]),
        "b.key.count": torch.tensor(7),
        "b.query.count": torch.tensor(7),
        "c.query.bias": torch.tensor([0.0]),
    }
    join(weights, (".query.", ".key."), ".qk.")
    assert {name: value.tolist() for name, value in weights.items()} == {
        "c.query.bias": [0.0],
        "b.qk.bias": [1.0, 2.0, 3.0],
        "b.qk.count": 7,
    }
