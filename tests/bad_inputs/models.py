"""Networks, losses, preprocessing and distillations that cannot be built or trained."""

from tests.bad_inputs.case import changed

_HEAD = "decode_head=dict(type='FCNHead', in_channels={}, channels=8, num_classes=9)"
_FOREIGN = "model = dict(type='mmseg.EncoderDecoder', backbone=dict(type='ResNetV1c', depth=18, in_channels=1), {})"
MODELS = [
    changed("model = 'Segmentor'", "model is 'Segmentor'", "dict(type=...)"),
    changed("model = dict(type='Segmentr')", "'Segmentr' is not known", "Segmentor"),
    changed("model = dict(type=3)", "model.type is 3"),
    changed("model = dict(type='torch.nn.Linear', in_features=1, out_features=2)", "model is a Linear", "Segmentor"),
    changed("model.update(num_classes=0)", "model.num_classes is 0"),
    changed("model.update(num_classes='9')", "model.num_classes is '9'"),
    changed("model.update(num_classes=5)", "model.num_classes is 5, but the data", "have 9"),
    changed("model.update(in_channels=3)", "model.in_channels is 3, but the data"),
    changed("model.update(losses=3)", "model.losses is 3"),
    changed("model.update(losses=[])", "model.losses is empty"),
    changed("model.update(losses=[dict(type='NoLoss')])", "model.losses[0]", "'NoLoss'"),
    changed("model.update(losses=[dict(type='CrossEntropyLoss', class_weight=[1, 2])])", "class_weight"),
    changed(
        "model.update(losses=[dict(type='CrossEntropyLoss', loss_weight=-1)])", "model.losses[0].loss_weight is -1"
    ),
    changed("model.update(losses=[dict(type='SoftDiceLoss', smooth='x')])", "model.losses[0].smooth is 'x'"),
    changed("model.update(losses=[dict(type='monai.DiceFocalLoss', gamma='x')])", "model.losses[0].gamma is 'x'"),
    changed("model.update(output_weights=1.0)", "model.output_weights is 1.0", "a list"),
    changed("model.update(output_weights=(1.0, 'x'))", "model.output_weights"),
    changed("model.update(output_weights=(-1.0, 1.0))", "model.output_weights[0] is -1.0"),
    changed("model.update(output_weights=(1.0,))", "gives 2 outputs", "model.output_weights has 1"),
    changed("model.update(size_divisor=0)", "model.size_divisor is 0"),
    changed("model.update(ignore_index='x')", "model.ignore_index is 'x'"),
    changed("model.update(data_preprocessor=dict(size=224))", "model.data_preprocessor.size is 224"),
    changed(
        "model.update(data_preprocessor=dict(augmentation=dict(rotate_prob=2)))", "rotate_prob is 2", "from 0 to 1"
    ),
    changed("model.update(data_preprocessor=dict(augmentation=dict(type='NoAug')))", "'NoAug'"),
    changed("model.update(network='UNet')", "model.network is 'UNet'", "dict(type=..."),
    changed("model.update(network=dict(type='NoNet'))", "model.network.type is 'NoNet'"),
    changed("model.update(network=dict(backbone=dict(depth=19)))", "ResNetV1c(depth=19", "cannot be built"),
    changed("model.update(network=dict(backbone=dict(base_channels=-8)))", "base_channels=-8", "cannot be built"),
    changed("model.update(network=dict(backbone=dict(strides=('a', 'b', 'c', 'd'))))", "ResNetV1c", "cannot be built"),
    changed("model.update(network=dict(backbone=dict(dilations=(0, 0, 0, 0))))", "model.network.backbone", "dilation"),
    changed("model.update(network=dict(backbone=dict(norm_cfg=dict(type='XX'))))", "ResNetV1c", "XX"),
    changed("model.update(network=dict(backbone=dict(dept=18)))", "'dept'", "depth"),
    changed("model['network'] = dict(type='MedNeXt', channels='x')", "model.network.channels is 'x'"),
    changed("model['network'] = dict(type='TransUNet', num_heads=7)", "num_heads"),
    changed("model['network'] = dict(type='monai.UNet', channels=(4, 8))", "model.network", "strides"),
    changed(_FOREIGN.format(_HEAD.format(100)), "model.decode_head", "100 channels"),
    changed("model.update(teacher=3)", "model.teacher is 3", base="pair"),
    changed("model.update(teacher_ckpt='nothing.pth')", "nothing.pth is not there. Train it first", base="pair"),
    changed("model.update(teacher_ckpt=3)", "model.teacher_ckpt is 3", base="pair"),
    changed("model.update(distiller='CWD')", "model.distiller is 'CWD'", base="pair"),
    changed("model.update(distiller=dict(type='CWDD'))", "'CWDD'", "CWD", base="pair"),
    changed("model.update(distiller=dict(tau=0))", "model.distiller.tau is 0", base="pair"),
    changed("model.update(distiller=dict(loss_weight='x'))", "model.distiller.loss_weight is 'x'", base="pair"),
    changed("model.update(distiller=dict(stage='x'))", "model.distiller.stage is 'x'", base="pair"),
    changed("model.update(distiller=dict(stage=99))", "stage is 99", base="pair"),
    changed("model.update(distiller=dict(nothing=1))", "model.distiller", "nothing", base="pair"),
    changed("model.update(calculate_student_loss='x')", "model.calculate_student_loss is 'x'", base="pair"),
    changed("model.update(teacher=dict(num_classes=5))", "num_classes is 5", base="pair"),
    changed("model.update(type='SingleTeacherDistil')", "SingleTeacherDistill", base="pair"),
]
