"""A pair whose teacher is a nnU-Net has no run folder to wait for."""

from pathlib import Path

from medseg_kd.configuration.reading import brings_weights
from medseg_kd.distill.pair_config import pair_config


def test_a_pair_names_no_checkpoint_of_a_nnunet(tmp_path: Path) -> None:
    assert brings_weights({"type": "NnUNetTeacher", "results": "r"})
    assert not brings_weights({"type": "Segmentor"})
    teacher, student = tmp_path / "nnunet.py", tmp_path / "student.py"
    for path in (teacher, student):
        path.write_text("model = dict()\n")
    own, others = (
        pair_config(Path("KD"), teacher, student, tmp_path / "pair.py", run) for run in (None, "work_dirs/a")
    )
    assert "\nrun = None\n" in own
    assert '\nrun = "work_dirs/a"\n' in others
