"""The losses of a batch: names, weights, sizes, padding."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from torch import nn

from medseg_kd.datasets import collate_slices
from medseg_kd.errors import UserError
from medseg_kd.models import SoftDiceLoss
from tests.models.segmentors import LOSSES, MONAI, Pointwise, batch, build


def test_names_and_weights():
    x, labels = batch()
    model = build(dict(type=Pointwise, outputs=2), output_weights=(0.75, 0.25)).train()
    values = model(x, labels, mode="loss")
    label = labels.long()
    main, aux = model.network(x)
    assert list(values) == ["loss_ce", "loss_dice", "aux1.loss_ce", "aux1.loss_dice"]
    torch.testing.assert_close(values["loss_ce"], 0.75 * F.cross_entropy(main, label))
    torch.testing.assert_close(values["aux1.loss_ce"], 0.25 * F.cross_entropy(aux, label))
    torch.testing.assert_close(values["loss_dice"], 0.75 * SoftDiceLoss()(main, label))
    torch.testing.assert_close(values["aux1.loss_dice"], 0.25 * SoftDiceLoss()(aux, label))


def test_every_part_is_trained_on():
    """MMEngine adds up what has "loss" in its name."""
    x, labels = batch()
    model = build(dict(type=Pointwise, outputs=2), output_weights=(0.75, 0.25)).train()
    values = model.loss(x, labels)
    total, _ = model.parse_losses(values)
    torch.testing.assert_close(total, sum(values.values()))


def test_losses_of_one_name_are_summed():
    x, labels = batch()
    twice = build(losses=[dict(type=SoftDiceLoss), dict(type=SoftDiceLoss, loss_weight=2.0)]).loss(x, labels)
    once = build(losses=[dict(type=SoftDiceLoss)]).loss(x, labels)
    torch.testing.assert_close(twice["loss_dice"], 3 * once["loss_dice"])


def test_outputs_that_a_network_of_monai_stacks():
    x, labels = batch((16, 16))
    steps = dict(kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2], filters=[4, 4, 4])
    network = dict(type="monai.DynUNet", **steps, deep_supervision=True, deep_supr_num=1)
    model = build(network, output_weights=(0.75, 0.25), losses=LOSSES[:1]).train()
    main, aux = model.network(x).unbind(1)
    values = model.loss(x, labels)
    torch.testing.assert_close(values["loss_ce"], 0.75 * F.cross_entropy(main, labels.long()))
    torch.testing.assert_close(values["aux1.loss_ce"], 0.25 * F.cross_entropy(aux, labels.long()))
    with pytest.raises(UserError, match="DynUNet gives 2 outputs in training, but model.output_weights has 1"):
        build(network).train().loss(x, labels)


def test_logits_are_resized_to_the_label():
    x, labels = batch((12, 10))
    model = build(dict(type=Pointwise, reduction=2)).train()
    logits = F.interpolate(model.network(x), size=(12, 10), mode="bilinear", align_corners=False)
    label = labels.long()
    torch.testing.assert_close(model.loss(x, labels)["loss_ce"], F.cross_entropy(logits, label))


def test_padding_does_not_change_the_loss():
    values = []
    for divisor in (1, 16):
        x, labels = batch((13, 11))
        model = build(size_divisor=divisor).train()
        losses = model.loss(x, labels)
        sum(losses.values()).backward()
        values.append({**losses, "gradient": model.network.heads[0].weight.grad})
        assert model.network.sizes[0][-2:] == ((13, 11) if divisor == 1 else (16, 16))
    for name, value in values[0].items():
        torch.testing.assert_close(value, values[1][name], msg=lambda text, name=name: f"{name}: {text}")


def test_padding_of_the_batch_does_not_change_the_loss():
    """Slices of different size, padded by the preprocessor to the larger."""
    model = build(losses=LOSSES[:1]).train()
    slices = [batch(size, 1) for size in ((6, 9), (8, 5))]
    data = collate_slices([{"inputs": x[0], "labels": label[0], "meta": {}} for x, label in slices])
    expected = [F.cross_entropy(model.network(x), label.long(), reduction="sum") for x, label in slices]
    prepared = model.data_preprocessor(data, training=True)
    torch.testing.assert_close(model(**prepared, mode="loss")["loss_ce"], sum(expected) / (6 * 9 + 8 * 5))


def test_a_wrong_number_of_weights():
    x, labels = batch()
    model = build(dict(type=Pointwise, outputs=3), output_weights=(1, 0.5)).train()
    with pytest.raises(UserError, match=r"Pointwise gives 3 outputs in training, but model\.output_weights has 2"):
        model.loss(x, labels)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_wrong_number_of_channels(wrong):
    model = build(dict(type=Pointwise, outputs=2), output_weights=(1, 1)).train()
    model.network.heads[wrong] = nn.Conv2d(1, 5, 1)
    with pytest.raises(UserError, match=r"Pointwise gives 5 channels, but model\.num_classes is 4"):
        model.loss(*batch())


def test_in_eval_mode_the_main_output_has_losses():
    """Losses of validation: the network gives no auxiliary output then."""
    x, labels = batch()
    model = build(dict(type=Pointwise, outputs=2), output_weights=(0.75, 0.25)).eval()
    values = model.loss(x, labels)
    assert list(values) == ["loss_ce", "loss_dice"]
    torch.testing.assert_close(values["loss_ce"], 0.75 * F.cross_entropy(model.network(x), labels.long()))


def test_two_labels_for_padding():
    with pytest.raises(UserError, match=r"model\.ignore_index is 0, but model\.data_preprocessor\.ignore_index is 255"):
        build(ignore_index=0)


def test_a_training_step():
    """With the data that a loader's collation gives."""
    x, labels = batch((40, 36))
    model = build(MONAI, data_preprocessor=dict(augmentation=dict(type="RandomRotateFlip"))).train()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
    before = model.network.final_conv.weight.clone()
    logs = model.train_step({"inputs": x, "labels": labels, "meta": [{}, {}]}, optimizer)
    assert {"loss", "loss_ce", "loss_dice"} <= logs.keys()
    assert not torch.equal(before, model.network.final_conv.weight)
