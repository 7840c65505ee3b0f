"""Installation of medseg_kd: ranges of what it needs, and the configs inside the wheel."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "medseg_kd/__init__.py").read_text(encoding="utf-8"))


class BuildWithConfigs(build_py):
    """Copies the top-level ``configs/`` into the wheel as ``medseg_kd/configs``.

    An editable install reads the clone's own folder, so it copies nothing.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "medseg_kd" / "configs"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / "configs", target, ignore=shutil.ignore_patterns("__pycache__"))


setup(
    name="medseg_kd",
    version=VERSION.group(1),
    description="Config-driven 2D medical image segmentation and knowledge distillation on MMEngine",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Image Processing",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["medseg_kd", "medseg_kd.*"]),
    package_data={
        "medseg_kd.datasets.conversion.known": ["*.json"],
        "medseg_kd.report.page": ["templates/*"],
    },
    entry_points={"console_scripts": ["medseg-kd=medseg_kd.cli.commands:entry"]},
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=[
        "torch>=2.8,<3",
        "onedl-mmengine>=0.10.8,<0.11",
        "onedl-mmcv>=2.3,<3",
        "onedl-mmsegmentation>=1.4,<2",
        "monai>=1.5,<2",
        "argcomplete>=3",  # completion of medseg-kd in a shell
        "numpy>=2,<3",
        "scipy>=1.11",
        "einops>=0.7",
        "h5py>=3.10",
        "SimpleITK>=2.3",
        "jinja2>=3.1",
        "matplotlib>=3.7",
        "pillow>=10",
        "prettytable>=3.6",
        "pydicom>=3",
        "rich>=13",
        "submitit>=1.5.2,<2",
    ],
    extras_require={
        "imagenet": ["torchvision>=0.23"],  # names of its weights
        "smp": ["segmentation-models-pytorch>=0.5,<1"],  # its networks, with timm's encoders
        "export": ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20", "safetensors>=0.4"],
        "openvino": ["openvino>=2024.0"],  # export to its format
        "dicom": ["highdicom>=0.25"],  # segmentations of DICOM series
        "rankseg": ["rankseg>=0.0.8"],  # Dice-optimal decoding
        "nnunet": ["dynamic-network-architectures>=0.4,<0.5"],  # networks of its plans
        "tracking": ["tensorboard>=2.15", "wandb>=0.20", "mlflow-skinny>=3"],  # curves outside the run's own log
        "mmrazor": ["mmrazor==1.0.0"],  # its losses and connectors
        "medpy": ["medpy>=0.5"],  # what the tests and the benchmark compare scores with
    },
)
