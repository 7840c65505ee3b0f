"""Kernels that see RGB images, for images of any number of channels."""

from mmengine.logging import print_log
from torch import Tensor, nn

_RGB = 3


def fit_input_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution kernel (out, 3, h, w) for images of ``channels`` channels, (out, channels, h, w).

    For one channel it is summed: on a grey image it gives what it gave on that image repeated three times. For any
    other number its channels follow one another cyclically (R, G, B, R, ...), times 3 / ``channels``, so that its
    response keeps its size. Both as timm's ``adapt_input_conv`` does.
    """
    given = weight.shape[1]
    if channels == given:
        return weight
    if channels == 1:
        return weight.sum(1, keepdim=True)
    return weight.repeat(1, -(-channels // given), 1, 1)[:, :channels] * (given / channels)


def fit_stem(weights: dict[str, Tensor], module: nn.Module, source: str) -> dict[str, Tensor]:
    """Weights for ``module``, the kernels that see the image fitted to its number of channels; the log says so.

    Those are fitted that are of 3 input channels where the module has as many as its first convolution, and of the same
    shape otherwise. What is no floating-point tensor is left for :func:`~medseg_kd.models.checkpoint.load_weights` to
    refuse.
    """
    channels = next((layer.in_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)), _RGB)
    if channels == _RGB:
        return weights
    fitted = {
        key: fit_input_channels(given, channels)
        for key, own in module.state_dict().items()
        if own.ndim == 4
        and own.shape[1] == channels
        and isinstance(given := weights.get(key), Tensor)
        and given.is_floating_point()
        and given.shape == (own.shape[0], _RGB, *own.shape[2:])
    }
    if fitted:
        rule = "summed over" if channels == 1 else f"repeated cyclically, times {_RGB}/{channels}, from"
        print_log(
            f"{source}: {', '.join(fitted)} {rule} its {_RGB} input channels for {channels}-channel input", "current"
        )
    return {**weights, **fitted}
