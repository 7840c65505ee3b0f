"""Prediction of slices and whole cases."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch import Tensor

from medseg_kd.datasets.transforms import zoom_planes
from medseg_kd.errors import UserError
from medseg_kd.inference import case
from tests.models.segmentors import CLASSES, MONAI, Pointwise, batch, build


def volumes() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.rand(5, 1, 13, 11), torch.rand(2, 1, 8, 9)]


def test_whole_cases():
    model = build(size_divisor=4).eval()
    cases = volumes()
    out = model(cases, None, [{"case_name": name} for name in "ab"], mode="predict")
    assert [sample.case_name for sample in out] == ["a", "b"]
    for sample, volume in zip(out, cases, strict=True):
        label = sample.pred_sem_seg.data
        assert label.dtype == torch.uint8 and label.device.type == "cpu"
        assert torch.equal(label, model.network(volume).argmax(1).to(torch.uint8))
        assert len(label.unique()) > 1


def test_slices():
    model = build().eval()
    x, labels = batch()
    for out in (model(x, labels, mode="predict"), model(x, mode="predict")):
        predicted = torch.cat([sample.pred_sem_seg.data for sample in out])
        assert torch.equal(predicted, model.network(x).argmax(1).to(torch.uint8))


@pytest.mark.parametrize("network", [dict(type=Pointwise), MONAI], ids=["pointwise", "monai"])
def test_slice_batch_does_not_change_the_result(network):
    """But for a tie that the last bit decides."""
    volume = torch.rand(5, 1, 40, 36, generator=torch.Generator().manual_seed(1))
    predictions = []
    for slice_batch in (1, 2, 5, 8):
        model = build(network, slice_batch=slice_batch, size_divisor=16).eval()
        predictions.append(model.predict_volume(volume))
    assert predictions[0].shape == (5, 40, 36)
    assert all((predictions[0] != other).float().mean() < 1e-3 for other in predictions[1:])


def test_slice_batch_bounds_what_the_network_sees():
    model = build(slice_batch=2).eval()
    model.predict_volume(volumes()[0])
    assert [size[0] for size in model.network.sizes] == [2, 2, 1]


def test_on_the_cpu_eight_slices_go_together():
    model = build().eval()
    model.predict_volume(torch.rand(17, 1, 4, 4))
    assert [size[0] for size in model.network.sizes] == [8, 8, 1]


def test_on_a_gpu_the_first_case_of_a_size_is_measured(monkeypatch):
    measured = []

    def probe(device, predict, slices):
        predict()
        measured.append(slices)
        return 16

    monkeypatch.setattr(case, "probe", probe)
    monkeypatch.setattr(case.CasePredictor, "_predict", lambda _, model, slices, device: model.network(slices))
    model, predictor = build().eval(), case.CasePredictor()
    gpu = torch.device("cuda")
    assert predictor._batches(model, torch.rand(39, 1, 4, 4), gpu) == [16, 16, 4, 2, 1]
    assert predictor._batches(model, torch.rand(20, 1, 4, 4), gpu) == [16, 4]
    assert predictor._batches(model, torch.rand(2, 1, 8, 4), gpu) == [2]
    assert measured == [4, 2]
    assert case.CasePredictor(slice_batch=3)._batches(model, torch.rand(39, 1, 4, 4), gpu) == 3


def test_a_slice_batch_of_nothing():
    with pytest.raises(UserError, match=r"model\.slice_batch is 0: expected at least 1, or None"):
        build(slice_batch=0).predict_volume(torch.rand(1, 1, 4, 4))


def test_resampling_as_in_the_code_of_published_tables():
    """Slice by slice what ``test_single_volume`` of TransUNet does, at sizes both larger and smaller."""
    volume = volumes()[0]
    for size in ((8, 7), (26, 24)):
        model = build().eval()
        resized = torch.from_numpy(zoom_planes(volume.numpy(), size, 3))
        for image, label in zip(volume[:, 0].numpy(), model.predict_volume(resized, (13, 11)), strict=True):
            small = zoom(image, (size[0] / 13, size[1] / 11), order=3)
            with torch.no_grad():
                classes = model.network(torch.from_numpy(small)[None, None]).softmax(1).argmax(1)[0].numpy()
            assert np.array_equal(label.numpy(), zoom(classes, (13 / size[0], 11 / size[1]), order=0))
        assert model.network.sizes[0][-2:] == size


def test_a_size_of_the_preprocessor_is_undone():
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


def test_a_test_step_leaves_no_gradient():
    """With the data that a loader's collation gives."""
    model = build(dict(type=Pointwise, outputs=2), output_weights=(1, 1)).eval()
    cases = volumes()
    labels = [torch.zeros(len(volume), *volume.shape[2:], dtype=torch.uint8) for volume in cases]
    out = model.test_step({"inputs": cases, "labels": labels, "meta": [{}, {}]})
    assert [tuple(one.pred_sem_seg.data.shape) for one in out] == [(5, 13, 11), (2, 8, 9)]
    assert out[0].gt_sem_seg.data.shape == (5, 13, 11)


def test_auxiliary_outputs_are_not_predicted_with():
    """A network that gives them in evaluation too."""
    network = Pointwise(CLASSES, 1, outputs=2)
    network.forward = lambda x: [head(x) for head in network.heads]
    model = build(network).eval()
    volume = volumes()[0]
    assert torch.equal(model.predict_volume(volume), network.heads[0](volume).argmax(1).to(torch.uint8))


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="'logits', expected 'tensor', 'loss' or 'predict'"):
        build()(torch.rand(1, 1, 8, 8), mode="logits")
