"""Properties of the losses on random inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from medseg_kd.distill import (
    ATLoss,
    AttnFDLoss,
    BPKDLoss,
    CBAMConnector,
    CIRKDLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    HCLLoss,
    IFVDLoss,
    KDLoss,
    LSKDLoss,
    MaskedGeneration,
    MGDLoss,
)
from medseg_kd.distill.losses.pixels import masked_mean, masked_pool
from medseg_kd.errors import UserError

LOSSES = {
    "kd": KDLoss(tau=2),
    "dkd": DKDLoss(tau=2, alpha=1, beta=2),
    "dist": DISTLoss(),
    "cwd": CWDLoss(tau=2),
    "at": ATLoss(),
    "hcl": HCLLoss(),
    "lskd": LSKDLoss(tau=2),
    "bpkd": BPKDLoss(width=1),
    "cirkd": CIRKDLoss(),
    "ifvd": IFVDLoss(),
    "mgd": MGDLoss(),
    "attnfd": AttnFDLoss(),
}
STAGE = ("cirkd", "ifvd", "mgd", "attnfd")
INTER = DISTLoss(gamma=0)
quick = settings(max_examples=10, deadline=None, derandomize=True)


def case(seed: int, n: int = 2, c: int = 4, h: int = 6, w: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Student and teacher maps (n, c, h, w) in float64, labels (n, h, w)."""
    rng = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(n, c, h, w, generator=rng, dtype=torch.float64) for _ in range(2))
    return 2 * student, 3 * teacher, torch.randint(c, (n, h, w), generator=rng)


def over(*names: str):
    """Run a property on some losses, on random inputs."""

    def decorate(function):
        return pytest.mark.parametrize("name", names)(quick(given(seed=st.integers(0, 10_000))(function)))

    return decorate


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> bool:
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


@over(*LOSSES)
def test_zero_for_equal_maps(name, seed):
    _, teacher, label = case(seed)
    assert LOSSES[name](teacher, teacher, label).abs() < 1e-7


@over(*LOSSES)
def test_positive_for_different_maps(name, seed):
    assert LOSSES[name](*case(seed)) > 1e-4


@over("kd", "dkd", "dist", "lskd")
def test_unchanged_by_a_constant_per_pixel(name, seed):
    student, teacher, label = case(seed)
    shift = 5 * student[:, :1]
    assert close(LOSSES[name](student + shift, teacher - shift, label), LOSSES[name](student, teacher, label))


def test_cwd_changes_with_a_constant_per_pixel():
    student, teacher, _ = case(0)
    assert not close(LOSSES["cwd"](student + 5 * student[:, :1], teacher), LOSSES["cwd"](student, teacher), 1e-3)


@over("kd", "dkd", "dist", "cwd", "at", "lskd", "bpkd", *STAGE)
def test_a_constant_per_image_and_channel(name, seed):
    student, teacher, label = case(seed)
    shift = 3 * student[..., :1, :1]
    unchanged = close(LOSSES[name](student + shift, teacher, label), LOSSES[name](student, teacher, label), 1e-6)
    assert unchanged == (name == "cwd")


@over("kd", "dkd", "cwd", "at", "hcl", "inter", "lskd", "ifvd", "mgd", "attnfd")
def test_mean_over_a_batch_is_the_mean_of_its_halves(name, seed):
    loss = {**LOSSES, "inter": INTER}[name]
    maps = case(seed, n=4)
    halves = [loss(*(x[part] for x in maps)) for part in (slice(2), slice(2, 4))]
    assert close(loss(*maps), sum(halves) / 2)


@over(*(name for name in LOSSES if name != "bpkd"))
def test_one_shuffle_of_the_pixels_of_both(name, seed):
    maps = case(seed)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    shuffled = [x.flatten(-2)[..., order].view_as(x) for x in maps]
    assert close(LOSSES[name](*shuffled), LOSSES[name](*maps)) == (name != "hcl")


@over(*LOSSES)
def test_joint_flip_and_duplication(name, seed):
    maps = case(seed)
    value = LOSSES[name](*maps)
    assert close(LOSSES[name](*(x.flip(-1) for x in maps)), value)
    assert close(LOSSES[name](*(x.flip(-2) for x in maps)), value)
    assert close(LOSSES[name](*(torch.cat((x, x)) for x in maps)), value)


@over("kd", "dkd", "dist", "cwd", "at", "lskd", "bpkd", *STAGE)
def test_joint_class_permutation(name, seed):
    student, teacher, label = case(seed)
    order = torch.tensor([2, 0, 3, 1])
    value = LOSSES[name](student[:, order], teacher[:, order], order.argsort()[label])
    assert close(value, LOSSES[name](student, teacher, label))


@pytest.mark.parametrize("loss", [KDLoss, CWDLoss])
@quick
@given(seed=st.integers(0, 10_000), scale=st.floats(0.5, 8))
def test_temperature_scales(loss, seed, scale):
    student, teacher, _ = case(seed)
    assert close(loss(tau=scale)(scale * student, scale * teacher), scale**2 * loss(tau=1)(student, teacher))


@quick
@given(seed=st.integers(0, 10_000))
def test_attention_forgets_scale_sign_and_channel_order(seed):
    student, teacher, _ = case(seed)
    scales = torch.tensor([3.0, -0.2], dtype=torch.float64).view(2, 1, 1, 1)
    assert close(ATLoss()(scales * student[:, [3, 1, 0, 2]], teacher), ATLoss()(student, teacher))


@quick
@given(seed=st.integers(0, 10_000))
def test_decoupled_terms_add_up_to_kd(seed):
    """On a pixel, TCKD + (1 - p_y of the teacher) * NCKD = KD; with two classes NCKD is 0."""
    student, teacher, label = case(seed, n=1, h=1, w=1)
    rest = 1 - teacher.softmax(1)[0, label.item()].item()
    assert close(DKDLoss(tau=1, alpha=1, beta=rest)(student, teacher, label), KDLoss(tau=1)(student, teacher))
    student, teacher, label = case(seed, c=2)
    assert close(DKDLoss(tau=1, alpha=1, beta=9)(student, teacher, label), KDLoss(tau=1)(student, teacher))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name):
    student, teacher, label = case(1, n=2, c=3, h=5, w=2)
    label[0, 0] = 255
    student.requires_grad_()
    teacher.requires_grad_()
    assert gradcheck(lambda x: LOSSES[name](x, teacher.detach(), label), student, fast_mode=True)
    LOSSES[name](student, teacher, label).backward()
    assert teacher.grad is None


@over("kd", "dkd", "dist", "cwd", "at", "lskd", *STAGE)
def test_ignored_pixels_take_no_part(name, seed):
    """The loss of an image with ignored pixels is that of its other pixels alone."""
    student, teacher, label = case(seed, n=1)
    ignored = torch.rand(6, 5, generator=torch.Generator().manual_seed(seed)) < 0.4
    kept = [x[..., ~ignored][..., None, :] for x in (student, teacher, label)]
    expected = LOSSES[name](*kept)
    label[:, ignored] = 255
    student.requires_grad_()
    value = LOSSES[name](student, teacher, label)
    value.backward()
    assert close(value, expected)
    assert student.grad[..., ignored].eq(0).all() and student.grad[..., ~ignored].ne(0).any()


@over(*LOSSES)
def test_values_of_ignored_pixels_do_not_matter(name, seed):
    student, teacher, label = case(seed)
    label[0, 2:4, 1:] = 255
    label[1, :, 0] = 255
    ignored = (label == 255)[:, None]
    changed = [x.masked_fill(ignored, value) for x, value in ((student, 7.0), (teacher, -9.0))]
    student.requires_grad_()
    value = LOSSES[name](student, teacher, label)
    value.backward()
    assert close(LOSSES[name](*changed, label), value)
    assert student.grad.masked_select(ignored).eq(0).all()


def test_pools_of_hcl_average_valid_pixels():
    """Height 2 with the lower row ignored: both the full map and pool 1 see the upper row alone."""
    difference = torch.tensor([[3.0, 1.0], [50.0, 50.0]]).view(1, 1, 2, 2)
    label = torch.tensor([[[0, 0], [255, 255]]])
    assert HCLLoss()(difference, torch.zeros_like(difference), label).item() == pytest.approx((5 + 0.5 * 4) / 1.5)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_batch_gives_a_connected_zero(name):
    student, teacher, label = case(0)
    student.requires_grad_()
    value = LOSSES[name](student, teacher, torch.full_like(label, 255))
    value.backward()
    assert value == 0 and student.grad.eq(0).all()


def test_cwd_counts_images_that_hold_valid_pixels():
    student, teacher, label = case(0)
    label[1] = 255
    assert close(CWDLoss()(student, teacher, label), CWDLoss()(student[:1], teacher[:1], label[:1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_finite_in_low_precision(name, dtype):
    rng = torch.Generator().manual_seed(0)
    large = 6e4 * (2 * torch.randint(2, (2, 2, 4, 6, 5), generator=rng) - 1).to(dtype)
    for student in (large[0], torch.full_like(large[0], 3), torch.zeros_like(large[0])):
        student = student.clone().requires_grad_()
        with torch.autocast("cpu", dtype):
            value = LOSSES[name](student, large[1], torch.zeros(2, 6, 5, dtype=torch.long))
        value.backward()
        assert value.dtype == torch.float32 and value.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_memory_format_and_weight(name):
    student, teacher, label = case(3)
    value = LOSSES[name](student, teacher, label)
    channels_last = (x.to(memory_format=torch.channels_last) for x in (student, teacher))
    assert close(LOSSES[name](*channels_last, label), value)
    weighted = type(LOSSES[name])(loss_weight=3.0)
    plain = type(LOSSES[name])(loss_weight=1.0)
    assert close(weighted(student, teacher, label), 3 * plain(student, teacher, label))


@pytest.mark.parametrize("name", ["kd", "dist", "cwd", "lskd"])
def test_smaller_logits_are_resized_to_the_larger(name):
    small, large = case(0)[0], case(1, h=12, w=10)[1]
    bilinear = interpolate(small, size=(12, 10), mode="bilinear", align_corners=False)
    assert close(LOSSES[name](small, large), LOSSES[name](bilinear, large))
    assert close(LOSSES[name](large, small), LOSSES[name](large, bilinear))


@pytest.mark.parametrize("name", ["dkd", "bpkd"])
def test_logits_are_resized_to_the_label(name):
    student, teacher, _ = case(0)
    label = case(1, h=12, w=10)[2]
    resized = [interpolate(x, size=(12, 10), mode="bilinear", align_corners=False) for x in (student, teacher)]
    assert close(LOSSES[name](student, teacher, label), LOSSES[name](*resized, label))


def test_label_of_another_size_masks_the_nearest_pixels():
    student, teacher, label = case(0)
    label[:, :3] = 255
    enlarged = label.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert close(KDLoss()(student, teacher, enlarged), KDLoss()(student, teacher, label))


def test_attention_pools_the_larger_feature_before_squaring():
    small, large = case(0, c=3)[0], case(1, c=7, h=12, w=10)[1]
    assert close(ATLoss()(small, large), ATLoss()(small, adaptive_avg_pool2d(large, (6, 5))))
    assert close(ATLoss()(large, small), ATLoss()(adaptive_avg_pool2d(large, (6, 5)), small))


def test_dist_leaves_classes_out_that_the_teacher_does_not_see():
    student, teacher, label = case(0)
    teacher[:, 2] = -100
    columns = DISTLoss(beta=0, min_teacher_prob=1e-6)
    absent_costs = DISTLoss(beta=0)(student, teacher, label) - 0.75 * columns(student, teacher, label)
    assert absent_costs.item() == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("name", ["kd", "dkd", "dist", "cwd", "hcl", "lskd", "bpkd", "mgd", "attnfd"])
def test_other_channel_counts_are_refused_with_the_connector(name):
    student, teacher, label = case(0)
    with pytest.raises(UserError, match=r"in_channel=3, out_channel=4"):
        LOSSES[name](student[:, :3], teacher, label)


def test_dist_of_a_constant_student_is_finite_and_calm():
    teacher = case(0)[1].float()
    student = torch.full_like(teacher, 0.3, requires_grad=True)
    value = DISTLoss()(student, teacher)
    value.backward()
    assert value == 2 and student.grad.abs().max() < 1


@pytest.mark.parametrize("peak", [0.3, 7.1])
def test_dist_of_a_student_with_constant_classes_is_calm_on_large_maps(peak):
    """Pixels may differ from each other by rounding alone, of the mean of 32,768 of them too."""
    teacher = case(0, h=128, w=128)[1].float()
    student = torch.zeros_like(teacher)
    student[:, 0] = peak
    student.requires_grad_()
    value = DISTLoss(beta=0)(student, teacher)
    value.backward()
    assert value == 1 and student.grad.eq(0).all()


def test_dist_of_a_class_that_the_student_hardly_sees():
    """In float32 as in float64, value and gradient, though its probabilities are of the order of float32's rounding."""
    student, teacher, label = case(0, h=128, w=128)
    student[:, 2] -= 18
    label[:, :40] = 255
    values, gradients = [], []
    for dtype in (torch.float32, torch.float64):
        x = student.to(dtype).requires_grad_()
        value = DISTLoss()(x, teacher.to(dtype), label)
        value.backward()
        values.append(value.item())
        gradients.append(x.grad.double())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    for classes in (slice(None), 2):
        ours, exact = (gradient[:, classes] for gradient in gradients)
        assert (ours - exact).norm() < 1e-2 * exact.norm()


@quick
@given(seed=st.integers(0, 10_000))
def test_what_a_loss_does_not_look_at(seed):
    """LSKD at scale and offset of a pixel's logits, CIRKD at the lengths of features and their basis, IFVD and AttnFD
    at the scale of a map; the first three at that of each side for itself."""
    student, teacher, label = case(seed)
    scale, offset = student[:, :1].exp(), teacher[:, :1]
    assert close(LOSSES["lskd"](scale * student + offset, teacher), LOSSES["lskd"](student, teacher), 1e-5)
    basis = torch.linalg.qr(student[0, :, :4, 0]).Q
    turned = torch.einsum("kc,nchw->nkhw", basis, scale * student)
    assert close(LOSSES["cirkd"](turned, teacher), LOSSES["cirkd"](student, teacher))
    for name in ("ifvd", "attnfd"):
        assert close(LOSSES[name](3 * student, teacher / 7, label), LOSSES[name](student, teacher, label))
    assert close(LOSSES["ifvd"](student[:, [3, 1, 0, 2]], teacher, label), LOSSES["ifvd"](student, teacher, label))


@pytest.mark.parametrize("name", ["cirkd", "ifvd", "attnfd"])
def test_the_larger_feature_is_pooled_to_the_smaller(name):
    small, large, label = case(0)[0], case(1, h=12, w=10)[1], case(0)[2]
    pooled = adaptive_avg_pool2d(large, (6, 5))
    assert close(LOSSES[name](small, large, label), LOSSES[name](small, pooled, label))
    assert close(LOSSES[name](large, small, label), LOSSES[name](pooled, small, label))


def test_cirkd_pools_to_its_grid_and_ifvd_takes_channels_as_they_are():
    (student, teacher, label), other = case(0), case(1, c=7)[1]
    pooled = [adaptive_avg_pool2d(each, (3, 3)) for each in (student, teacher)]
    assert close(CIRKDLoss(grid=3)(student, teacher), LOSSES["cirkd"](*pooled))
    for name in ("cirkd", "ifvd"):
        assert LOSSES[name](student, other, label) > 1e-4


def test_prototypes_are_of_each_image_and_class():
    """By hand: class 0 of one image has the features (1, 0) and (0, 1), whose prototype is at 45 degrees to both."""
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).T.view(1, 2, 1, 2)
    teacher, label = torch.ones_like(student), torch.zeros(1, 1, 2, dtype=torch.long)
    away = 1 - 0.5**0.5
    assert IFVDLoss(loss_weight=1)(student, teacher, label).item() == pytest.approx(away**2)
    label[0, 0, 1] = 1  # each is its own prototype
    assert IFVDLoss(loss_weight=1)(student, teacher, label).item() == pytest.approx(0)


@pytest.mark.parametrize("kind", [MaskedGeneration, CBAMConnector])
def test_connectors_do_not_see_ignored_pixels(kind):
    torch.manual_seed(0)
    connector = kind(4, 6, 5).double() if kind is MaskedGeneration else kind(4, 5).double()
    x, valid = case(0)[0].requires_grad_(), torch.ones(2, 6, 5, dtype=torch.bool)
    valid[0, 2:4, 1:] = False
    valid = valid if kind is MaskedGeneration else valid[:, None]
    outputs = []
    for value in (x, x.masked_fill(~valid.view(2, 1, 6, 5), 9.0)):
        torch.manual_seed(1)
        outputs.append(connector(value, valid))
    assert torch.equal(*outputs) and outputs[0].shape == (2, 5, 6, 5)
    (gradient,) = torch.autograd.grad(outputs[0].square().sum(), x)
    assert gradient.masked_select(~valid.view(2, 1, 6, 5)).eq(0).all() and gradient.ne(0).any()
    assert connector(x, torch.zeros_like(valid)).isfinite().all()


def test_the_mask_leaves_a_quarter_of_the_pixels():
    connector, seen = MaskedGeneration(3, 4, 3, mask_ratio=0.75), []
    connector.generation.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for _ in range(2):
        connector(torch.ones(2, 3, 16, 16), torch.ones(2, 32, 32, dtype=torch.bool))
    assert not torch.equal(*seen)
    assert seen[0].unique().tolist() == [0, 1] and seen[0].mean().item() == pytest.approx(0.25, abs=0.03)
    with pytest.raises(UserError, match="mask_ratio is 1: expected a share"):
        MaskedGeneration(3, 4, 3, mask_ratio=1)


@pytest.mark.parametrize("loss", [LSKDLoss(), KDLoss(standardize=True), DKDLoss(standardize=True)])
def test_two_classes_cannot_be_standardised(loss):
    with pytest.raises(UserError, match="tell nothing with 2 classes"):
        loss(*case(0, c=2))


def test_other_mistakes_are_refused():
    student, teacher, _ = case(0)
    with pytest.raises(UserError, match="same N"):
        KDLoss()(student[:1], teacher)
    for needs_labels in (DKDLoss(), BPKDLoss(), IFVDLoss()):
        with pytest.raises(UserError, match="labels"):
            needs_labels(student, teacher)
    with pytest.raises(UserError, match="width is 0: expected"):
        BPKDLoss(width=0)
    with pytest.raises(UserError, match=r"same size.*torch.nn.Upsample, size=\(6, 5\)"):
        HCLLoss()(student[..., :3], teacher)


@pytest.mark.parametrize("size", [(8, 8), (12, 8), (7, 9), (8, 6), (4, 4), (2, 3)])
def test_hcl_pools_the_valid_pixels_whether_or_not_its_cells_nest(size):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, *size, generator=generator, dtype=torch.float64) for _ in range(2))
    valid = torch.rand(2, *size, generator=generator) < 0.6
    valid[0, : size[0] // 2] = False
    difference = student - teacher
    total, weights = masked_mean(difference.square(), valid[:, None]), 1.0
    for level, pool in enumerate((pool for pool in (4, 2, 1) if pool < size[0]), start=1):
        means, cells = masked_pool(difference, valid, (pool, pool))
        total = total + masked_mean(means.square(), cells[:, None]) / 2**level
        weights += 1 / 2**level
    label = torch.where(valid, 1, 255)
    assert HCLLoss()(student, teacher, label).item() == pytest.approx((total / weights).item(), rel=1e-12)


@pytest.mark.parametrize(
    "sizes", [[(16, 16), (8, 8), (8, 8)], [(16, 16), (6, 9), (4, 4), (2, 2)]], ids=["nested", "any"]
)
def test_hcl_of_a_pyramid_is_the_sum_over_its_stages(sizes):
    """In value and gradient, whatever the stages' channels, with ignored pixels that fill cells and an image."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(2, (2, 16, 16), generator=generator) * 255
    label[0, :8], label[1] = 255, 255
    students, teachers = (
        [torch.randn(2, 2 + level, *size, generator=generator, dtype=torch.float64) for level, size in enumerate(sizes)]
        for _ in range(2)
    )
    found = []
    for together in (True, False):
        given = [student.clone().requires_grad_() for student in students]
        pairs = list(zip(given, teachers, strict=True))
        loss, groups = HCLLoss(0.3), [pairs] if together else [[pair] for pair in pairs]
        for where in (label, None):
            sum(loss.of_pyramid(group, where) for group in groups).backward()
            found.append([each.grad.clone() for each in given])
    torch.testing.assert_close(found[:2], found[2:], rtol=1e-12, atol=1e-14)
    assert all((gradient[1] == 0).all() for gradient in found[0])
