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


def make_inputs() -> dict[str, np.ndarray]:
    """Name to array; ``label`` holds classes, ``label_ignore`` 255 in a fifth of its pixels."""
    rng = np.random.default_rng(0)
    inputs = {}
    for name, shape, low, high in _specs():
        inputs[name] = np.round((low + (high - low) * rng.random(shape)) * 65536) / 65536
    inputs["label"] = np.floor(rng.random((N, 16, 16)) * C).astype(np.int64)
    inputs["label_ignore"] = np.where(rng.random((N, 16, 16)) < 0.2, 255, inputs["label"])
    inputs["label_ns"] = np.floor(rng.random((N, 12, 20)) * C).astype(np.int64)
    return inputs
