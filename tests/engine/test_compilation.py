"""What is refused to be compiled."""

from types import SimpleNamespace

import pytest

from medseg_kd.engine.compilation import check_compilation
from medseg_kd.errors import UserError

DISTILLATION, SEGMENTOR = SimpleNamespace(teachers=[object()]), SimpleNamespace()


@pytest.mark.parametrize("options", [True, {}, {"mode": "default"}, {"backend": "inductor"}])
def test_inductor_on_the_cpu_is_refused_for_distillations(options) -> None:
    if options:
        with pytest.raises(UserError, match="wrong gradients for some distillations.*aot_eager"):
            check_compilation(options, DISTILLATION, "cpu")
    check_compilation(options, SEGMENTOR, "cpu")
    check_compilation(options, DISTILLATION, "cuda")


def test_weights_that_are_measured_are_refused() -> None:
    model = SimpleNamespace(teachers=[object()], is_measured=True)
    with pytest.raises(UserError, match="GradientShare: some steps measure gradients"):
        check_compilation({"backend": "aot_eager"}, model, "cuda")
    check_compilation(None, model, "cuda")


@pytest.mark.parametrize("options", [None, False, {"backend": "aot_eager"}])
def test_what_is_safe_is_let_through(options) -> None:
    check_compilation(options, DISTILLATION, "cpu")
