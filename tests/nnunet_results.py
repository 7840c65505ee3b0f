"""Plans, dataset.json and results folders as nnU-Net v2 writes them, made up and small."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg_kd.models import NnUNet

ARCHITECTURE: dict[str, Any] = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 8, 16],
        "conv_op": "torch.nn.modules.conv.Conv2d",
        "kernel_sizes": [[3, 3], [3, 3], [3, 3]],
        "strides": [[1, 1], [2, 2], [2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
CT = {
    "percentile_00_5": -150.0,
    "percentile_99_5": 250.0,
    "mean": 60.0,
    "std": 80.0,
    "median": 55,
    "min": -900,
    "max": 900,
}
OLD_KEYS: dict[str, Any] = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 4,
    "unet_max_num_features": 16,
    "n_conv_per_stage_encoder": [1, 1, 1],
    "n_conv_per_stage_decoder": [1, 1],
    "num_pool_per_axis": [2, 2],
    "pool_op_kernel_sizes": [[1, 1], [2, 2], [2, 2]],
    "conv_kernel_sizes": [[3, 3], [3, 3], [3, 3]],
}


def plans_json(*schemes: tuple[str, bool], **changes: Any) -> dict[str, Any]:
    """Plans of one configuration, 2d; ``schemes`` of the channels with their ``use_mask_for_norm``."""
    schemes = schemes or (("CTNormalization", False),)
    configuration = {
        "data_identifier": "nnUNetPlans_2d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 12,
        "patch_size": [32, 24],
        "median_image_size_in_voxels": [40.0, 40.0],
        "spacing": [1.0, 1.0],
        "normalization_schemes": [scheme for scheme, _ in schemes],
        "use_mask_for_norm": [masked for _, masked in schemes],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": copy.deepcopy(ARCHITECTURE),
        "batch_dice": True,
        **changes,
    }
    return {
        "dataset_name": "Dataset017_Toy",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(number): dict(CT) for number in range(len(schemes))},
    }


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def dataset_json(
    labels: dict[str, Any] | None = None, channels: tuple[str, ...] = ("CT",), **more: Any
) -> dict[str, Any]:
    """``dataset.json`` of three classes, or of others."""
    return {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels or {"background": 0, "liver": 1, "spleen": 2},
        "numTraining": 5,
        "file_ending": ".nii.gz",
        **more,
    }


def write_results(
    folder: Path,
    plans: dict[str, Any] | None = None,
    dataset: dict[str, Any] | None = None,
    folds: tuple[int | str, ...] = (0,),
    outputs: int = 3,
    **changes: Any,
) -> Path:
    """A results folder of a training that never was: random weights, beside what nnU-Net's own checkpoints hold.

    Args:
        outputs: Classes or regions that the network predicts.
        changes: Of each checkpoint.
    """
    plans, dataset = plans or plans_json(), dataset or dataset_json()
    write_json(folder / "plans.json", plans)
    write_json(folder / "dataset.json", dataset)
    configuration = plans["configurations"]["2d"]
    architecture = configuration.get("architecture", ARCHITECTURE)
    for number, fold in enumerate(folds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            network = NnUNet(outputs, len(dataset["channel_names"]), architecture=architecture).unet
            for weights in network.parameters():  # far from those of an untrained network, whose logits are alike
                weights.data += 0.3 * torch.randn_like(weights)
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": {"state": {}, "param_groups": [{"lr": np.float64(0.01)}]},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "dice_per_class_or_region": [[np.float32(0.5)]]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 5,
            "init_args": {"plans": plans, "configuration": "2d", "fold": fold, "dataset_json": dataset},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1),
            **changes,
        }
        path = folder / f"fold_{fold}" / "checkpoint_final.pth"
        path.parent.mkdir(parents=True)
        torch.save(checkpoint, path)
    return folder
