"""What nnU-Net v2 says of its data and networks, ``dataset.json`` and ``plans.json``, as plain values.

Keys and their meaning are those of nnU-Net's ``PlansManager``, ``ConfigurationManager`` and ``LabelManager``; nothing
that a file names is imported here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

from medseg_kd.errors import UserError, did_you_mean
from medseg_kd.text_files import read_json, typed

_USUAL = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "preprocessor_name": "DefaultPreprocessor",
    "label_manager": "LabelManager",
    "previous_stage": None,
}
"""Names of nnU-Net's own code that this project does the same as."""
_OLD_NETWORKS = {
    "PlainConvUNet": ("dynamic_network_architectures.architectures.unet.PlainConvUNet", "n_conv_per_stage"),
    "ResidualEncoderUNet": (
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "n_blocks_per_stage",
    ),
}


@dataclass(frozen=True)
class Normalization:
    """How the values of a channel are scaled.

    Attributes:
        scheme: Name of nnU-Net's class, such as ``CTNormalization``.
        masked: Whether its statistics are those of what is not zero (``use_mask_for_norm``).
        low, high: Percentiles 0.5 and 99.5 of the foreground of all training cases.
        mean, std: Mean and standard deviation of the same; all four NaN where the plans do not tell them.
    """

    scheme: str
    masked: bool = False
    low: float = math.nan
    high: float = math.nan
    mean: float = math.nan
    std: float = math.nan


@dataclass(frozen=True)
class Plan:
    """A configuration of ``plans.json``.

    Attributes:
        where: The file and the configuration, for messages.
        patch_size: Pixels of a patch, (height, width) in a 2D configuration.
        spacing: mm of its pixels, (row, column) in a 2D configuration.
        batch_size: Patches in a batch.
        channels: The rule of each channel.
        transpose: Axes of the arrays that SimpleITK gives, (z, y, x), in the order in which they are worked on: slices
            of a 2D configuration are cut along the first of them.
        reorients: Whether volumes are turned to RAS when they are read; otherwise they are taken as their files lie.
        architecture: ``network_class_name``, ``arch_kwargs`` and ``_kw_requires_import``, as the file has them.
        orders: Of the splines that images and that logits are resampled by.
    """

    where: str
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]
    batch_size: int
    channels: tuple[Normalization, ...]
    transpose: tuple[int, ...]
    reorients: bool
    architecture: Mapping[str, Any]
    orders: tuple[int, int]

    def check_2d(self) -> None:
        """Refuse a configuration whose network takes volumes."""
        if not len(self.patch_size) == len(self.spacing) == 2:
            raise UserError(
                f"{self.where}: its patches of {self.patch_size} pixels with sides of {self.spacing} mm are no slices. "
                "Slices need the configuration 2d"
            )


def read_plan(path: Path, configuration: str = "2d") -> Plan:
    """Read ``plans.json`` (``nnUNetPlans.json`` in nnU-Net's folder of preprocessed data), also that of v2.0 to v2.3.

    Raises:
        UserError: It is damaged, has no such configuration, or resamples by a function that is not nnU-Net's usual one.
    """
    plans = read_json(path, dict)
    configurations = typed(plans.get("configurations"), dict, f"{path}: configurations")
    where = f"{path}: configuration {configuration}"
    told = _inherited(configurations, configuration, path)
    for key, usual in _USUAL.items():
        if (named := {**plans, **told}.get(key, usual)) != usual:
            raise UserError(f"{where}: {key} is {named!r}: expected nnU-Net's usual {usual}")
    transpose = plans.get("transpose_forward", [0, 1, 2])
    if transpose not in [[*axes] for axes in permutations(range(3))]:
        raise UserError(f"{path}: transpose_forward is {transpose}: expected the axes 0, 1 and 2")
    batch_size = told.get("batch_size")
    if type(batch_size) is not int or batch_size < 1:
        raise UserError(f"{where}: batch_size is {batch_size!r}: expected a number above 0")
    return Plan(
        where,
        _numbers(told.get("patch_size"), int, f"{where}: patch_size"),
        _numbers(told.get("spacing"), float, f"{where}: spacing"),
        batch_size,
        _channels(plans, told, where),
        tuple(transpose),
        plans.get("image_reader_writer") == "NibabelIOWithReorient",
        typed(told.get("architecture") or _old_architecture(told, where), dict, f"{where}: architecture"),
        (_order(told, "data", 3, where), _order(told, "probabilities", 1, where)),
    )


def _inherited(configurations: Mapping[str, Any], name: Any, path: Path, heirs: tuple[Any, ...] = ()) -> dict[str, Any]:
    """A configuration with what it inherits."""
    name = str(name)
    if name not in configurations or name in heirs:
        hint = did_you_mean(name, configurations, f"; there are {', '.join(configurations)}")
        told = f"inherits_from goes round in a circle: {', '.join((*heirs, name))}"
        raise UserError(f"{path}: {told}" if name in heirs else f"{path} has no configuration {name!r}{hint}")
    own = typed(configurations[name], dict, f"{path}: configuration {name}")
    if "inherits_from" not in own:
        return own
    return {**_inherited(configurations, own["inherits_from"], path, (*heirs, name)), **own}


def _channels(plans: Mapping[str, Any], told: Mapping[str, Any], where: str) -> tuple[Normalization, ...]:
    """The rule of each channel."""
    schemes = typed(told.get("normalization_schemes"), list, f"{where}: normalization_schemes")
    masked = typed(told.get("use_mask_for_norm"), list, f"{where}: use_mask_for_norm")
    names = "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"
    properties = typed(next((plans[name] for name in names if name in plans), {}), dict, f"{where}: {names[0]}")
    if not schemes or len(masked) != len(schemes):
        raise UserError(f"{where}: {len(schemes)} normalization_schemes, but {len(masked)} use_mask_for_norm")
    found = []
    for number, (scheme, mask) in enumerate(zip(schemes, masked, strict=True)):
        own = typed(properties.get(str(number), {}), dict, f"{where}: {names[0]}: {number}")
        keys = ("percentile_00_5", "percentile_99_5", "mean", "std")
        values = [own.get(key) for key in keys]
        known = all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
        if scheme == "CTNormalization" and not (known and values[0] < values[1] and values[3] >= 0):
            raise UserError(
                f"{where}: channel {number} is scaled by CTNormalization, but {', '.join(keys)} are {values}"
            )
        found.append(Normalization(str(scheme), bool(mask), *(values if known else ())))
    return tuple(found)


def _old_architecture(told: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The network of plans of nnU-Net v2.0 to v2.3, as later ones describe it."""
    name = told.get("UNet_class_name")
    if name not in _OLD_NETWORKS:
        raise UserError(
            f"{where}: neither an architecture nor a UNet_class_name of {', '.join(_OLD_NETWORKS)}: {name!r}"
        )
    network, blocks = _OLD_NETWORKS[name]
    try:
        stages, dimensions = len(told["n_conv_per_stage_encoder"]), len(told["patch_size"])
        widths = [min(told["UNet_base_num_features"] * 2**i, told["unet_max_num_features"]) for i in range(stages)]
        arguments = {
            "n_stages": stages,
            "features_per_stage": widths,
            "conv_op": f"torch.nn.Conv{dimensions}d",
            "kernel_sizes": told["conv_kernel_sizes"],
            "strides": told["pool_op_kernel_sizes"],
            blocks: told["n_conv_per_stage_encoder"],
            "n_conv_per_stage_decoder": told["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: its network cannot be read ({type(error).__name__}: {error})") from error
    imported = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    return {"network_class_name": network, "arch_kwargs": arguments, "_kw_requires_import": imported}


def _order(told: Mapping[str, Any], what: str, usual: int, where: str) -> int:
    """The order of the splines that something is resampled by."""
    options = typed(told.get(f"resampling_fn_{what}_kwargs", {}), dict, f"{where}: resampling_fn_{what}_kwargs")
    settings = {"order": usual, "order_z": 0, "force_separate_z": None, "is_seg": False, **options}
    order = settings.pop("order")
    if order not in range(6) or settings != {"order_z": 0, "force_separate_z": None, "is_seg": False}:
        raise UserError(f"{where}: resampling_fn_{what}_kwargs is {options}: expected an order, and the usual settings")
    return order


def _numbers(given: Any, kind: type, where: str) -> tuple[Any, ...]:
    """Numbers above 0 of a list."""
    numbers = typed(given, list, where)
    kinds = (int,) if kind is int else (int, float)
    if not numbers or any(type(each) not in kinds or not 0 < each < math.inf for each in numbers):
        raise UserError(f"{where} is {numbers}: expected numbers, as in [512, 512]")
    return tuple(map(kind, numbers))


def described(path: Path) -> dict[str, Any]:
    """What a ``dataset.json`` says of channels and labels, in the form of ``DataSpec.to_json``."""
    content = read_json(path, dict)
    names = typed(content.get("channel_names", content.get("modality")), dict, f"{path}: channel_names")
    if not names:
        raise UserError(f"{path} names no channels: expected channel_names, as in {{'0': 'CT'}}")
    return {"channel_names": names, **labels_of(content, path)}


def label_values(content: Mapping[str, Any], where: Path) -> dict[str, list[Any]]:
    """``labels`` of a ``dataset.json``: the values of each name, of a region several."""
    given = typed(content.get("labels"), dict, f"{where}: labels")
    if given and all(key.isdecimal() for key in given):  # nnU-Net v1 and the Decathlon: value to name
        given = {str(name): int(value) for value, name in given.items()}
    return {name: value if isinstance(value, list) else [value] for name, value in given.items()}


def labels_of(content: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """``labels``, ``regions`` and ``regions_class_order`` of a spec: every value is a class, regions are nnU-Net's.

    A class is named by the region that is made of it alone.
    """
    given, values = content.get("labels"), label_values(content, where)
    ignored = values.pop("ignore", [])
    every = [value for members in (*values.values(), ignored) for value in members]
    known = {*every} if all(type(value) is int for value in every) else set()
    if sorted(known) != list(range(len(known))) or values.get("background") != [0] or not known:
        raise UserError(
            f"{where}: labels is {given}: expected background 0, and whole numbers that follow each other without a gap"
        )
    if len(ignored) > 1 or (ignored and ignored[0] != len(known) - 1):
        raise UserError(f"{where}: ignore is {', '.join(map(str, ignored))}, expected the highest of the labels")
    regions = {name: members for name, members in values.items() if {*members} != {0}}
    single = {members[0]: name for name, members in values.items() if len({*members}) == 1}
    labels = {single.get(value, f"label {value}"): value for value in range(len(known) - len(ignored))}
    labels |= {"ignore": ignored[0]} if ignored else {}
    if all(len(members) == 1 for members in values.values()):
        if len(single) < len(values):
            raise UserError(f"{where}: labels is {given}: expected a value of its own for each name")
        return {"labels": labels}
    order = typed(content.get("regions_class_order") or [], list, f"{where}: regions_class_order")
    if len(order) != len(regions):
        raise UserError(
            f"{where}: labels has {len(regions)} regions, so regions_class_order is expected to have {len(regions)} "
            f"values; it is {order}"
        )
    return {"labels": labels, "regions": regions, "regions_class_order": order}
