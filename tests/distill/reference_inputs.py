"""Inputs for the reference values: one random stream, rounded so that float32 and float64 hold the same numbers."""

import numpy as np

N, C = 2, 9
STUDENT_CHANNELS, TEACHER_CHANNELS, MID = (8, 16, 24, 32), (12, 20, 28, 36), 16
SIZES = (16, 8, 8, 4)
SMALL_SIZES = (16, 8, 4, 2)


def _specs():
    """(name, shape, lowest, highest) in the order of the stream."""
    for name, shape, bound in (
        ("logits_s", (N, C, 16, 16), 4),
        ("logits_t", (N, C, 16, 16), 6),
        ("logits_s_ns", (N, C, 12, 20), 4),
        ("logits_t_ns", (N, C, 12, 20), 6),
        ("logits_s_lo", (N, C, 8, 8), 4),
        ("feat_s", (N, 64, 16, 16), 1),
        ("feat_t", (N, 256, 16, 16), 1),
        ("feat_s_big", (N, 64, 32, 32), 1),
    ):
        yield name, shape, -bound, bound
    for name, channels, sizes in (
        ("pyr_s", STUDENT_CHANNELS, SIZES),
        ("pyr_t", TEACHER_CHANNELS, SIZES),
        ("pyr_tsmall", TEACHER_CHANNELS, SMALL_SIZES),
    ):
        for level, (width, size) in enumerate(zip(channels, sizes, strict=True)):
            yield f"{name}{level}", (N, width, size, size), -1, 1
    for level, (student, teacher) in enumerate(zip(STUDENT_CHANNELS, TEACHER_CHANNELS, strict=True)):
        for layer, out, kernel, bound in (
            ("conv1", MID, (MID, student, 1, 1), 0.5),
            ("conv2", teacher, (teacher, MID, 3, 3), 0.25),
        ):
            yield f"abf{level}.{layer}.0.weight", kernel, -bound, bound
            for entry, low, high in (
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 1.5),
            ):
                yield f"abf{level}.{layer}.1.{entry}", (out,), low, high
        if level < len(SIZES) - 1:
            yield f"abf{level}.att_conv.0.weight", (2, 2 * MID, 1, 1), -0.5, 0.5
            yield f"abf{level}.att_conv.0.bias", (2,), -0.5, 0.5


def _later():
    """Likewise, of the stream that was added later: weights of MGD's generation and of AttnFD's connector."""
    student, teacher = STUDENT_CHANNELS[0], TEACHER_CHANNELS[0]
    yield "mgd.mask", (N, 1, SIZES[0], SIZES[0]), 0, 1
    for layer, shape in (
        ("align", (teacher, student, 1, 1)),
        ("generation.0", (teacher, teacher, 3, 3)),
        ("generation.2", (teacher, teacher, 3, 3)),
    ):
        yield f"mgd.{layer}.weight", shape, -0.25, 0.25
        yield f"mgd.{layer}.bias", (teacher,), -0.25, 0.25
    student, teacher = STUDENT_CHANNELS[1], TEACHER_CHANNELS[1]
    for layer, shape in (("channel.0", (student // 4, student)), ("channel.2", (student, student // 4))):
        yield f"cbam.{layer}.weight", shape, -0.5, 0.5
        yield f"cbam.{layer}.bias", (shape[0],), -0.5, 0.5
    for block, out, kernel in (("spatial", 1, (1, 2, 7, 7)), ("widen", teacher, (teacher, student, 1, 1))):
        yield f"cbam.{block}.0.weight", kernel, -0.25, 0.25
        for entry, low, high in (("weight", 0.5, 1.5), ("bias", -0.5, 0.5)):
            yield f"cbam.{block}.1.{entry}", (out,), low, high


def make_inputs() -> dict[str, np.ndarray]:
    """Name to array; ``label`` holds classes, ``label_ignore`` 255 in a fifth of its pixels."""
    rng, inputs = np.random.default_rng(0), {}

    def draw(specs, rng):
        for name, shape, low, high in specs:
            inputs[name] = np.round((low + (high - low) * rng.random(shape)) * 65536) / 65536

    draw(_specs(), rng)
    inputs["label"] = np.floor(rng.random((N, 16, 16)) * C).astype(np.int64)
    inputs["label_ignore"] = np.where(rng.random((N, 16, 16)) < 0.2, 255, inputs["label"])
    inputs["label_ns"] = np.floor(rng.random((N, 12, 20)) * C).astype(np.int64)
    draw(_later(), np.random.default_rng(1))
    return inputs
