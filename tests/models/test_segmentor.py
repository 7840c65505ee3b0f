"""The segmentor around networks of three kinds: ours, MONAI's and the user's own."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmseg.models.losses import CrossEntropyLoss
from monai.networks.nets import BasicUNet
from scipy.ndimage import zoom
from torch import Tensor, nn

from medseg_kd.datasets import collate_slices
from medseg_kd.datasets.resampling import zoom_planes
from medseg_kd.errors import UserError
from medseg_kd.inference import case
from medseg_kd.models import FCN, Segmentor, SlicePreprocessor, SoftDiceLoss, UNet
from medseg_kd.registry import MODELS

CLASSES = 4
LOSSES = [dict(type=CrossEntropyLoss, avg_non_ignore=True), dict(type=SoftDiceLoss)]
MONAI = dict(type=BasicUNet, spatial_dims=2, features=(4, 4, 8, 8, 8, 4))
BACKBONE = dict(
    type="mmseg.ResNetV1c",
    depth=18,
    in_channels=1,
    base_channels=4,
    stem_channels=4,
    dilations=(1, 1, 2, 4),
    strides=(1, 2, 1, 1),
    contract_dilation=True,
)


class Pointwise(nn.Module):
    """Logits of each pixel from that pixel alone, of every second when ``reduction`` is 2; keeps the sizes it saw."""

    def __init__(self, num_classes: int, in_channels: int, outputs: int = 1, reduction: int = 1) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(in_channels, num_classes, 1) for _ in range(outputs))
        self.reduction = reduction
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        self.sizes.append(tuple(x.shape))
        x = x[..., :: self.reduction, :: self.reduction]
        return [head(x) for head in self.heads] if self.training and len(self.heads) > 1 else self.heads[0](x)


def build(network: dict | nn.Module | None = None, **options) -> Segmentor:
    torch.manual_seed(0)
    options = {"num_classes": CLASSES, "losses": LOSSES, **options}
    return MODELS.build(dict(type=Segmentor, network=network or dict(type=Pointwise), **options))


def batch(size: tuple[int, int] = (12, 10), n: int = 2) -> tuple[Tensor, Tensor]:
    """Slices (n, 1, H, W) and their labels (n, H, W), uint8."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (n, *size), generator=rng).to(torch.uint8)
    return torch.rand(n, 1, *size, generator=rng), labels


class TestNetworks:
    @pytest.mark.parametrize("kind", [BasicUNet, "monai.networks.nets.BasicUNet"])
    def test_counts_are_filled_in_where_the_constructor_takes_them(self, kind):
        network = build({**MONAI, "type": kind}).network
        assert type(network) is BasicUNet
        assert network.final_conv.out_channels == CLASSES
        assert network.conv_0.conv_0.conv.in_channels == 1
        heads = build(dict(type=Pointwise)).network.heads
        assert (heads[0].in_channels, heads[0].out_channels) == (1, CLASSES)

    def test_what_the_config_says_stays(self):
        head = build(dict(type=Pointwise, in_channels=3, num_classes=7)).network.heads[0]
        assert (head.in_channels, head.out_channels) == (3, 7)
        config = dict(type=Pointwise)
        build(config)
        assert config == dict(type=Pointwise)

    def test_channels_from_the_config_to_the_logits(self):
        model = build(in_channels=4)
        assert model.in_channels == model.network.heads[0].in_channels == 4
        assert model(torch.rand(2, 4, 6, 6)).shape == (2, CLASSES, 6, 6)
        with pytest.raises(UserError, match=r"Pointwise takes 4 channel\(s\) \(model.in_channels\), but .* have 1"):
            model(torch.rand(2, 1, 6, 6))

    def test_two_numbers_of_channels(self):
        with pytest.raises(UserError, match=r"model.in_channels is 4, but Pointwise takes 3"):
            build(dict(type=Pointwise, in_channels=3), in_channels=4)

    @pytest.mark.parametrize("wrong", [0, "2", None, True])
    def test_no_number_of_classes(self, wrong):
        with pytest.raises(UserError, match=r"model.num_classes is .*: expected a number"):
            build(num_classes=wrong)

    def test_a_whole_model_is_no_network(self):
        """Its own losses and auxiliary heads would be dropped."""
        head = dict(type="mmseg.FCNHead", num_classes=CLASSES, in_channels=32, channels=8, in_index=3)
        with pytest.raises(UserError, match=r"model.network is a EncoderDecoder, a whole model .* in place of"):
            build(dict(type="mmseg.EncoderDecoder", backbone=BACKBONE, decode_head=head))

    def test_a_module_is_taken_as_it_is(self):
        network = Pointwise(CLASSES, 1)
        assert build(network).network is network

    def test_without_a_runner_and_by_name(self):
        model = MODELS.build(
            dict(
                type="Segmentor",
                network=dict(type="UNet", backbone=BACKBONE),
                num_classes=CLASSES,
                losses=[dict(type="mmseg.CrossEntropyLoss"), dict(type="SoftDiceLoss")],
                data_preprocessor=dict(type="SlicePreprocessor", size=(32, 32)),
            )
        )
        assert isinstance(model.network, UNet)
        assert model.data_preprocessor.size == (32, 32)
        assert isinstance(build().data_preprocessor, SlicePreprocessor)

    @pytest.mark.parametrize(
        "network", [dict(type=UNet, backbone=BACKBONE), dict(type=FCN, backbone=BACKBONE, channels=8)]
    )
    def test_feature_info_resolves_from_the_segmentor(self, network):
        model = build(network, output_weights=(1, 0.4)).eval()
        shapes = {}
        for stage in model.feature_info:
            model.get_submodule(stage["module"]).register_forward_hook(
                lambda _, __, out, name=stage["module"]: shapes.update({name: tuple(out.shape)})
            )
        with torch.no_grad():
            model(torch.rand(1, 1, 64, 64))
        assert len(shapes) == 4
        for stage in model.feature_info:
            side = 64 // stage["reduction"]
            assert shapes[stage["module"]] == (1, stage["channels"], side, side)

    def test_a_network_that_tells_nothing(self):
        assert build(MONAI).feature_info == []
        assert build(MONAI).size_divisor == 1


class TestSizes:
    def test_the_input_is_padded_and_the_logits_are_cropped(self):
        model = build(size_divisor=16).eval()
        x = torch.rand(2, 1, 50, 61)
        with torch.no_grad():
            logits = model(x, mode="tensor")
            assert torch.equal(logits, model.network(x))
        assert model.network.sizes[0] == (2, 1, 64, 64)
        assert logits.shape == (2, CLASSES, 50, 61)

    def test_padding_lies_right_and_below(self):
        x, labels = batch((5, 7))
        padded, out = build(size_divisor=4, ignore_index=99, data_preprocessor=dict(ignore_index=99)).pad(x, labels)
        assert padded.shape == (2, 1, 8, 8)
        assert torch.equal(padded[..., :5, :7], x)
        assert padded[..., 5:, :].abs().max() == padded[..., 7:].abs().max() == 0
        assert out.shape == (2, 8, 8) and out.dtype == torch.uint8 and torch.equal(out[:, :5, :7], labels)
        assert (out[:, 5:] == 99).all() and (out[..., 7:] == 99).all()

    def test_a_size_that_fits_is_left_alone(self):
        x, labels = batch((8, 12))
        model = build(size_divisor=4)
        assert model.pad(x, labels)[0] is x
        assert model.pad(x, labels, divisor=8)[0].shape[-2:] == (8, 16)

    def test_the_network_may_say_what_it_needs(self):
        network = Pointwise(CLASSES, 1)
        network.size_divisor = 32
        assert build(network).size_divisor == 32
        assert build(network, size_divisor=8).size_divisor == 8

    @pytest.mark.parametrize(
        "network",
        [MONAI, dict(type=UNet, backbone=BACKBONE), dict(type=Pointwise, reduction=2)],
        ids=["monai", "ours", "own"],
    )
    def test_tensor_mode_gives_full_resolution(self, network):
        model = build(network, size_divisor=16).eval()
        with torch.no_grad():
            assert model(torch.rand(1, 1, 50, 61), mode="tensor").shape == (1, CLASSES, 50, 61)
            assert model(torch.rand(1, 1, 50, 61)).shape == (1, CLASSES, 50, 61)

    def test_smaller_logits_are_resized_over_the_padded_grid(self):
        """A ramp stays the same ramp: cropping before resizing would stretch it."""
        network = Pointwise(1, 1, reduction=1)
        network.forward = lambda x: F.avg_pool2d(x, 2)
        model = build(network, num_classes=1, size_divisor=8, losses=None).eval()
        ramp = torch.arange(11.0).expand(1, 1, 10, 11)
        out = model(ramp, mode="tensor")[0, 0]
        torch.testing.assert_close(out[1:9, 1:9], ramp[0, 0, 1:9, 1:9])

    def test_auxiliary_outputs_in_tensor_mode(self):
        model = build(dict(type=Pointwise, outputs=2, reduction=2), output_weights=(1, 0.5), size_divisor=4)
        outputs = model.train()(torch.rand(1, 1, 9, 11), mode="tensor")
        assert [tuple(out.shape) for out in outputs] == [(1, CLASSES, 9, 11)] * 2


class TestLoss:
    def test_names_and_weights(self):
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

    def test_every_part_is_trained_on(self):
        """MMEngine adds up what has "loss" in its name."""
        x, labels = batch()
        model = build(dict(type=Pointwise, outputs=2), output_weights=(0.75, 0.25)).train()
        values = model.loss(x, labels)
        total, _ = model.parse_losses(values)
        torch.testing.assert_close(total, sum(values.values()))

    def test_losses_of_one_name_are_summed(self):
        x, labels = batch()
        twice = build(losses=[dict(type=SoftDiceLoss), dict(type=SoftDiceLoss, loss_weight=2.0)]).loss(x, labels)
        once = build(losses=[dict(type=SoftDiceLoss)]).loss(x, labels)
        torch.testing.assert_close(twice["loss_dice"], 3 * once["loss_dice"])

    def test_logits_are_resized_to_the_label(self):
        x, labels = batch((12, 10))
        model = build(dict(type=Pointwise, reduction=2)).train()
        logits = F.interpolate(model.network(x), size=(12, 10), mode="bilinear", align_corners=False)
        label = labels.long()
        torch.testing.assert_close(model.loss(x, labels)["loss_ce"], F.cross_entropy(logits, label))

    def test_padding_does_not_change_the_loss(self):
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

    def test_padding_of_the_batch_does_not_change_the_loss(self):
        """Slices of different size, padded by the preprocessor to the larger."""
        model = build(losses=LOSSES[:1]).train()
        slices = [batch(size, 1) for size in ((6, 9), (8, 5))]
        data = collate_slices([{"inputs": x[0], "labels": label[0], "meta": {}} for x, label in slices])
        expected = [F.cross_entropy(model.network(x), label.long(), reduction="sum") for x, label in slices]
        prepared = model.data_preprocessor(data, training=True)
        torch.testing.assert_close(model(**prepared, mode="loss")["loss_ce"], sum(expected) / (6 * 9 + 8 * 5))

    def test_a_wrong_number_of_weights(self):
        x, labels = batch()
        model = build(dict(type=Pointwise, outputs=3), output_weights=(1, 0.5)).train()
        with pytest.raises(UserError, match=r"Pointwise gives 3 outputs in training, but model\.output_weights has 2"):
            model.loss(x, labels)

    @pytest.mark.parametrize("wrong", [0, 1])
    def test_a_wrong_number_of_channels(self, wrong):
        model = build(dict(type=Pointwise, outputs=2), output_weights=(1, 1)).train()
        model.network.heads[wrong] = nn.Conv2d(1, 5, 1)
        with pytest.raises(UserError, match=r"Pointwise gives 5 channels, but model\.num_classes is 4"):
            model.loss(*batch())

    def test_in_eval_mode_the_main_output_has_losses(self):
        """Losses of validation: the network gives no auxiliary output then."""
        x, labels = batch()
        model = build(dict(type=Pointwise, outputs=2), output_weights=(0.75, 0.25)).eval()
        values = model.loss(x, labels)
        assert list(values) == ["loss_ce", "loss_dice"]
        torch.testing.assert_close(values["loss_ce"], 0.75 * F.cross_entropy(model.network(x), labels.long()))

    def test_two_labels_for_padding(self):
        with pytest.raises(
            UserError, match=r"model\.ignore_index is 0, but model\.data_preprocessor\.ignore_index is 255"
        ):
            build(ignore_index=0)

    def test_a_training_step(self):
        """With the data that a loader's collation gives."""
        x, labels = batch((40, 36))
        model = build(MONAI, data_preprocessor=dict(augmentation=dict(type="RandomRotateFlip"))).train()
        optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
        before = model.network.final_conv.weight.clone()
        logs = model.train_step({"inputs": x, "labels": labels, "meta": [{}, {}]}, optimizer)
        assert {"loss", "loss_ce", "loss_dice"} <= logs.keys()
        assert not torch.equal(before, model.network.final_conv.weight)


class TestPredict:
    def volumes(self) -> list[Tensor]:
        torch.manual_seed(1)
        return [torch.rand(5, 1, 13, 11), torch.rand(2, 1, 8, 9)]

    def test_volumes(self):
        model = build(size_divisor=4).eval()
        volumes = self.volumes()
        out = model(volumes, None, [{"case_name": name} for name in "ab"], mode="predict")
        assert [sample.case_name for sample in out] == ["a", "b"]
        for sample, volume in zip(out, volumes, strict=True):
            label = sample.pred_sem_seg.data
            assert label.dtype == torch.uint8 and label.device.type == "cpu"
            assert torch.equal(label, model.network(volume).argmax(1).to(torch.uint8))
            assert len(label.unique()) > 1

    def test_slices(self):
        model = build().eval()
        x, labels = batch()
        for out in (model(x, labels, mode="predict"), model(x, mode="predict")):
            predicted = torch.cat([sample.pred_sem_seg.data for sample in out])
            assert torch.equal(predicted, model.network(x).argmax(1).to(torch.uint8))

    @pytest.mark.parametrize("network", [dict(type=Pointwise), MONAI], ids=["pointwise", "monai"])
    def test_slice_batch_does_not_change_the_result(self, network):
        """But for a tie that the last bit decides."""
        volume = torch.rand(5, 1, 40, 36, generator=torch.Generator().manual_seed(1))
        predictions = []
        for slice_batch in (1, 2, 5, 8):
            model = build(network, slice_batch=slice_batch, size_divisor=16).eval()
            predictions.append(model.predict_volume(volume))
        assert predictions[0].shape == (5, 40, 36)
        assert all((predictions[0] != other).float().mean() < 1e-3 for other in predictions[1:])

    def test_slice_batch_bounds_what_the_network_sees(self):
        model = build(slice_batch=2).eval()
        model.predict_volume(self.volumes()[0])
        assert [size[0] for size in model.network.sizes] == [2, 2, 1]

    def test_on_the_cpu_eight_slices_go_together(self):
        model = build().eval()
        model.predict_volume(torch.rand(17, 1, 4, 4))
        assert [size[0] for size in model.network.sizes] == [8, 8, 1]

    def test_on_a_gpu_the_first_case_of_a_size_is_measured(self, monkeypatch):
        measured = []

        def probe(device, predict, slices):
            predict()
            measured.append(slices)
            return 16

        monkeypatch.setattr(case, "probe", probe)
        monkeypatch.setattr(case, "_predict", lambda model, slices, device: model.network(slices))
        model, predictor = build().eval(), case.CasePredictor()
        gpu = torch.device("cuda")
        assert predictor._batches(model, torch.rand(39, 1, 4, 4), gpu) == [16, 16, 4, 2, 1]
        assert predictor._batches(model, torch.rand(20, 1, 4, 4), gpu) == [16, 4]
        assert predictor._batches(model, torch.rand(2, 1, 8, 4), gpu) == [2]
        assert measured == [4, 2]
        assert case.CasePredictor(slice_batch=3)._batches(model, torch.rand(39, 1, 4, 4), gpu) == 3

    def test_a_slice_batch_of_nothing(self):
        with pytest.raises(UserError, match=r"model\.slice_batch is 0: expected at least 1, or None"):
            build(slice_batch=0).predict_volume(torch.rand(1, 1, 4, 4))

    def test_resampling_as_in_the_code_of_published_tables(self):
        """Slice by slice what ``test_single_volume`` of TransUNet does, at sizes both larger and smaller."""
        volume = self.volumes()[0]
        for size in ((8, 7), (26, 24)):
            model = build().eval()
            resized = torch.from_numpy(zoom_planes(volume.numpy(), size, 3))
            for image, label in zip(volume[:, 0].numpy(), model.predict_volume(resized, (13, 11)), strict=True):
                small = zoom(image, (size[0] / 13, size[1] / 11), order=3)
                with torch.no_grad():
                    classes = model.network(torch.from_numpy(small)[None, None]).softmax(1).argmax(1)[0].numpy()
                assert np.array_equal(label.numpy(), zoom(classes, (13 / size[0], 11 / size[1]), order=0))
            assert model.network.sizes[0][-2:] == size

    def test_a_size_of_the_preprocessor_is_undone(self):
        model = build(data_preprocessor=dict(size=(32, 24)), size_divisor=16).eval()
        volume = torch.zeros(2, 1, 64, 48)
        volume[0, :, 16:40] = 1
        volume[1, ..., 12:30] = 1
        with torch.no_grad():
            model.network.heads[0].weight.copy_(torch.tensor([-1.0, 1, 0, 0]).reshape(4, 1, 1, 1))
            model.network.heads[0].bias.copy_(torch.tensor([0.5, -0.5, -9, -9]))
        label = model([volume], mode="predict")[0].pred_sem_seg.data
        assert model.network.sizes[0] == (2, 1, 32, 32)
        assert torch.equal(label, volume[:, 0].to(torch.uint8))

    def test_a_test_step_leaves_no_gradient(self):
        """With the data that a loader's collation gives."""
        model = build(dict(type=Pointwise, outputs=2), output_weights=(1, 1)).eval()
        volumes = self.volumes()
        labels = [torch.zeros(len(volume), *volume.shape[2:], dtype=torch.uint8) for volume in volumes]
        out = model.test_step({"inputs": volumes, "labels": labels, "meta": [{}, {}]})
        assert [tuple(one.pred_sem_seg.data.shape) for one in out] == [(5, 13, 11), (2, 8, 9)]
        assert out[0].gt_sem_seg.data.shape == (5, 13, 11)

    def test_auxiliary_outputs_are_not_predicted_with(self):
        """A network that gives them in evaluation too."""
        network = Pointwise(CLASSES, 1, outputs=2)
        network.forward = lambda x: [head(x) for head in network.heads]
        model = build(network).eval()
        volume = self.volumes()[0]
        assert torch.equal(model.predict_volume(volume), network.heads[0](volume).argmax(1).to(torch.uint8))

    def test_an_unknown_mode(self):
        with pytest.raises(ValueError, match="'logits', expected 'tensor', 'loss' or 'predict'"):
            build()(torch.rand(1, 1, 8, 8), mode="logits")


def test_the_preprocessor_of_mmsegmentation_is_replaced() -> None:
    model = build(data_preprocessor=dict(type="mmseg.SegDataPreProcessor", size=(16, 16)))
    assert type(model.data_preprocessor) is SlicePreprocessor
    with pytest.raises(UserError, match="is a SegDataPreProcessor with a mean"):
        build(data_preprocessor=dict(type="mmseg.SegDataPreProcessor", mean=[123.7], std=[58.4]))
