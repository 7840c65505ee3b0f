"""MMSegmentation's segmentors behind the interface of ours."""

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample

from medseg_kd.errors import UserError
from medseg_kd.models import SegDataPreProcessor, SlicePreprocessor, SoftDiceLoss, mmseg_adapter
from medseg_kd.models.mmseg_adapter import adapt, build_segmentor
from medseg_kd.registry import MODELS

BACKBONE = dict(type="mmseg.ResNetV1c", depth=18, in_channels=3, base_channels=4, stem_channels=4)
HEAD = dict(type="mmseg.FCNHead", num_classes=4, in_channels=32, channels=8, in_index=3)
AUXILIARY = dict(type="mmseg.FCNHead", num_classes=4, in_channels=16, channels=8, in_index=2)
CONFIG = dict(type="mmseg.EncoderDecoder", backbone=BACKBONE, decode_head=HEAD, auxiliary_head=AUXILIARY)
SCALE = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


def batch(size: tuple[int, int] = (64, 48)) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (2, *size), generator=rng).to(torch.uint8)
    return {"inputs": torch.rand(2, 3, *size, generator=rng), "labels": labels, "meta": [{}, {}]}


def seeded(config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return MODELS.build(dict(config))


def test_names_and_weights_stay() -> None:
    theirs, ours = seeded(CONFIG), adapt(seeded(CONFIG))
    assert isinstance(ours, EncoderDecoder) and type(ours).__name__ == "EncoderDecoder"
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert (ours.num_classes, ours.in_channels, ours.ignore_index) == (4, 3, 255)
    assert isinstance(ours.data_preprocessor, SlicePreprocessor)
    assert adapt(ours) is ours


def test_losses_are_those_of_its_heads() -> None:
    data = batch()
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None].long())) for label in data["labels"]]
    theirs, ours = seeded(CONFIG).eval(), adapt(seeded(CONFIG)).eval()
    expected = theirs.loss(data["inputs"], samples)
    values = ours(**data, mode="loss")
    assert list(values) == list(expected) and {"decode.loss_ce", "aux.loss_ce"} <= values.keys()
    for name, value in values.items():
        torch.testing.assert_close(value, expected[name])


def test_losses_that_are_not_made_for_a_head() -> None:
    losses = [dict(type="torch.nn.CrossEntropyLoss", ignore_index=255), dict(type="mmseg.TverskyLoss")]
    losses.append(dict(type=SoftDiceLoss))
    head = {**HEAD, "loss_decode": losses, "dropout_ratio": 0}
    model = adapt(seeded({**CONFIG, "decode_head": head, "auxiliary_head": None}))
    data = batch()
    data["labels"][:, :9] = 255
    values = model(**data, mode="loss")
    assert list(values) == ["decode.loss_crossentropy", "decode.loss_tversky", "decode.loss_dice", "decode.acc_seg"]
    logits = model.train()(data["inputs"])
    expected = F.cross_entropy(logits, data["labels"].long(), ignore_index=255)
    torch.testing.assert_close(values["decode.loss_crossentropy"], expected)
    torch.testing.assert_close(values["decode.loss_dice"], SoftDiceLoss()(logits, data["labels"].long()))
    for wrong, message in (
        (dict(loss_decode=dict(type="torch.nn.MSELoss")), r"model.decode_head.loss_decode\[0\] \(MSELoss\) cannot be"),
        (dict(sampler=dict(type="mmseg.OHEMPixelSampler")), "takes no weights of pixels. Leave out the head's sampler"),
    ):
        with pytest.raises(UserError, match=message):
            adapt(seeded({**CONFIG, "decode_head": {**head, **wrong}}))


def test_losses_that_count_ignored_pixels_are_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(mmseg_adapter, "print_log", lambda text, *_: printed.append(text))
    losses = [dict(type="mmseg.CrossEntropyLoss"), dict(type="mmseg.DiceLoss")]
    model = adapt(seeded({**CONFIG, "decode_head": {**HEAD, "loss_decode": losses}}))
    (text,) = printed
    assert text.startswith("model.decode_head.loss_decode: MMSegmentation's DiceLoss counts ignored pixels (label 255")
    assert adapt(model) is model and len(printed) == 1


def test_a_training_step() -> None:
    model = adapt(seeded(CONFIG)).train()
    before = model.decode_head.conv_seg.weight.clone()
    model.train_step(batch(), OptimWrapper(torch.optim.SGD(model.parameters(), 0.1)))
    assert not torch.equal(before, model.decode_head.conv_seg.weight)


@pytest.mark.parametrize(
    "test_cfg", [None, dict(mode="whole"), dict(mode="slide", crop_size=(32, 32), stride=(32, 16))]
)
def test_whole_cases(test_cfg: dict[str, Any] | None) -> None:
    model = adapt(seeded({**CONFIG, "test_cfg": test_cfg and ConfigDict(test_cfg)})).eval()
    volume = torch.rand(3, 3, 64, 48)
    (sample,) = model.test_step({"inputs": [volume], "labels": [None], "meta": [{"case_name": "a"}]})
    with torch.no_grad():
        if (test_cfg or {}).get("mode") == "slide":
            meta = dict(ori_shape=(64, 48), img_shape=(64, 48), pad_shape=(64, 48), padding_size=[0, 0, 0, 0])
            logits = model.slide_inference(volume, [meta] * 3)
        else:
            logits = F.interpolate(model._forward(volume), size=(64, 48), mode="bilinear", align_corners=False)
    assert torch.equal(sample.pred_sem_seg.data, logits.argmax(1).to(torch.uint8))
    assert sample.case_name == "a"


def test_a_head_of_one_output() -> None:
    head = {**HEAD, "num_classes": 2, "out_channels": 1, "threshold": 0.4}
    model = adapt(seeded({**CONFIG, "decode_head": head, "auxiliary_head": None, "test_cfg": ConfigDict(mode="whole")}))
    slices = batch()["inputs"]
    model.eval().decode_head.conv_seg.bias.data -= model(slices).detach().median() - math.log(0.4 / 0.6)
    size = dict(ori_shape=(64, 48), img_shape=(64, 48), pad_shape=(64, 48))
    with torch.no_grad():
        expected = model.postprocess_result(model.inference(slices, [size] * 2))
        found = model.predict(slices)
    for sample, theirs in zip(found, expected, strict=True):
        assert torch.equal(sample.pred_sem_seg.data, theirs.pred_sem_seg.data.to(torch.uint8))
        assert sample.pred_sem_seg.data.unique().tolist() == [0, 1]


def test_a_head_that_gives_more_than_logits() -> None:
    head = {**HEAD, "type": "mmseg.EncHead", "in_channels": [8, 16, 32], "in_index": [1, 2, 3], "num_codes": 4}
    model = adapt(seeded({**CONFIG, "decode_head": {**head, "loss_se_decode": dict(type="mmseg.CrossEntropyLoss")}}))
    assert isinstance(model._forward(batch()["inputs"]), tuple)
    assert model(batch()["inputs"]).shape == (2, 4, 64, 48)


def test_cascades() -> None:
    coarse, fine = {**HEAD}, {**HEAD, "type": "mmseg.OCRHead", "ocr_channels": 4}
    model = build_segmentor(
        dict(type="mmseg.CascadeEncoderDecoder", num_stages=2, backbone=BACKBONE, decode_head=[coarse, fine])
    )
    assert model.num_classes == 4
    assert model.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 4, 64, 64)


def test_its_preprocessor_works_on_its_samples_alone() -> None:
    theirs = MODELS.build(dict(type="mmseg.SegDataPreProcessor", **SCALE, size_divisor=32, pad_val=1))
    model = build_segmentor({**CONFIG, "data_preprocessor": dict(type="mmseg.SegDataPreProcessor", **SCALE)})
    ours = build_segmentor({**CONFIG, "data_preprocessor": theirs}).data_preprocessor
    assert ours.given is theirs and ours.values == (SCALE["mean"], SCALE["std"], True)
    images = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in ((40, 50), (30, 33))]
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(4, (1, *each.shape[1:])))) for each in images]
    with pytest.raises(UserError, match="samples without img_path may be of any reader"):
        ours(dict(inputs=images, data_samples=samples), True)
    for name, sample in zip("ab", samples, strict=True):
        sample.set_metainfo(dict(img_path=f"img/{name}.png"))
    expected = theirs(dict(inputs=images, data_samples=copy.deepcopy(samples)), True)
    found = ours(dict(inputs=images, data_samples=copy.deepcopy(samples)), True)
    assert torch.equal(found["inputs"], expected["inputs"]) and found["inputs"].shape == (2, 3, 64, 64)
    labels = [sample.gt_sem_seg.data[0] for sample in expected["data_samples"]]
    assert torch.equal(found["labels"], torch.stack(labels).to(torch.uint8)) and found["labels"][1, 40, 40] == 255
    assert [each["case_name"] for each in found["meta"]] == ["a", "b"]
    plain = batch()
    assert torch.equal(model.data_preprocessor(plain, True)["inputs"], plain["inputs"])
    own = build_segmentor({**CONFIG, "data_preprocessor": dict(type=SlicePreprocessor, size=(32, 32))})
    assert own.data_preprocessor.size == (32, 32)


@pytest.mark.parametrize(
    ("inputs", "meta", "message"),
    [
        ([(3, 8, 8)], dict(flip=True), "take RandomFlip out of it"),
        ([(3, 8, 8), (3, 8, 9)], {}, "set batch_size=1"),
    ],
)
def test_a_test_batch_that_would_be_scored_wrongly(inputs: Any, meta: dict[str, Any], message: str) -> None:
    samples = [SegDataSample(metainfo=meta) for _ in inputs]
    with pytest.raises(UserError, match=message):
        SegDataPreProcessor()(dict(inputs=[torch.zeros(size) for size in inputs], data_samples=samples))


def test_padding_of_a_test_to_a_size() -> None:
    with pytest.raises(UserError, match="only size_divisor can be set there"):
        SegDataPreProcessor(test_cfg=dict(size=(64, 64)))
    assert SegDataPreProcessor(test_cfg=dict(size_divisor=32)).size_divisor == 32


def test_the_divisor_of_a_preprocessor_is_padded_to() -> None:
    divisible = dict(type="mmseg.SegDataPreProcessor", size_divisor=32)
    model = adapt(seeded({**CONFIG, "data_preprocessor": divisible})).eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[-2:])))
    data = batch((50, 40))
    assert model(data["inputs"]).shape == (2, 4, 50, 40)
    values = model(**data, mode="loss")
    assert seen == [(64, 64), (64, 64)]
    inputs, labels = model.pad(data["inputs"], data["labels"])
    plain = adapt(seeded(CONFIG)).eval()
    assert values["decode.loss_ce"] == plain.loss(inputs, labels)["decode.loss_ce"]
    assert labels[0, 63, 63] == 255


def test_other_models_stay_as_they_are() -> None:
    module = torch.nn.Conv2d(1, 1, 1)
    assert adapt(module) is module
