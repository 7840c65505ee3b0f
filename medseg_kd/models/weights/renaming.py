"""Tables of names: what other code calls a weight, as regular expressions, and what we call it."""

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from medseg_kd.errors import UserError


def renamed(name: str, rules: Mapping[str, str]) -> str:
    """A name after all rules, pattern to replacement, in their order; one that no pattern knows stays."""
    for pattern, replacement in rules.items():
        name = re.sub(pattern, replacement, name)
    return name


def rename(
    state: Mapping[str, Tensor], rules: Mapping[str, str], unused: Collection[str] = frozenset()
) -> dict[str, Tensor]:
    """Weights under their new names, without those whose old name is in ``unused``.

    Raises:
        UserError: Two weights would get the same name.
    """
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in unused:
            continue
        new = renamed(name, rules)
        if new in weights:
            raise UserError(f"two of the weights are called {new} here, one of them is {name}: remove the wrong one")
        weights[new] = value
    return weights


def join(weights: dict[str, Tensor], parts: Sequence[str], whole: str) -> None:
    """Join, in place, weights whose names differ in ``parts`` alone along their outputs; a group with gaps stays."""
    for first in [name for name in weights if parts[0] in name]:
        names = [first.replace(parts[0], part) for part in parts]
        if all(name in weights for name in names):
            values = [weights.pop(name) for name in names]
            # The counter of a batch norm is the same number in every part.
            weights[first.replace(parts[0], whole)] = torch.cat(values) if values[0].ndim else values[0]
