"""Write what nnU-Net's own predictor gives for the made-up trainings of the tests; needs the package nnunetv2.

Run as ``python -m tools.dev.nnunet_reference``, in the folder of the repository.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from tests.inference.nnunet_cases import EXAMPLES, Example, write


def predict(example: Example) -> np.ndarray:
    """Labels (z, y, x) of an example."""
    with tempfile.TemporaryDirectory() as folder:
        results, files = write(example, Path(folder))
        predictor = nnUNetPredictor(use_mirroring=example.mirror, device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(results), example.folds, "checkpoint_final.pth")
        images, properties = predictor.plans_manager.image_reader_writer_class().read_images(list(map(str, files)))
        return predictor.predict_single_npy_array(images, properties).astype(np.uint8)


if __name__ == "__main__":
    target = Path("tests/inference/nnunet_reference.npz")
    np.savez_compressed(target, **{name: predict(example) for name, example in EXAMPLES.items()})  # type: ignore[arg-type]
    print(f"{target}: {target.stat().st_size >> 10} KB")
