"""The one bilinear resize."""

import torch

from medseg_kd.models.resizing import resize


def test_values_worked_out_by_hand() -> None:
    """Pixel centres: 1 and 3 become 1, 1.5, 2.5, 3, the ends are repeated."""
    x = torch.tensor([[1.0, 3.0]]).expand(2, 2)[None, None]
    assert torch.equal(resize(x, (2, 4)), torch.tensor([1, 1.5, 2.5, 3]).expand(1, 1, 2, 4))
    assert resize(x, [5, 3]).shape == (1, 1, 5, 3)


def test_nothing_to_do() -> None:
    x = torch.rand(2, 3, 4, 6)
    assert all(resize(x, size) is x for size in ((4, 6), [4, 6], x.shape[-2:]))
