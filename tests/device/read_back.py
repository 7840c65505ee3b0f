"""A loss that the host has to wait for."""

import torch
from torch import nn


class ReadBack(nn.Module):
    """Cross-entropy that reads its own value."""

    loss_name = "loss_read"

    def forward(self, logits: torch.Tensor, label: torch.Tensor, ignore_index: int = 255) -> torch.Tensor:
        loss = nn.functional.cross_entropy(logits, label.long(), ignore_index=ignore_index)
        return loss if loss.item() >= 0 else -loss
