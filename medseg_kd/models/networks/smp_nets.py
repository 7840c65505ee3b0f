"""Networks of segmentation_models_pytorch by name: ``dict(type='smp.Unet', encoder_name='resnet18')``.

The package is optional, and imported when the first is asked for. What differs: ``encoder_weights`` is None unless a
config says otherwise, takes a file too, and is loaded when training starts, so that a test downloads nothing.
"""

import inspect
import re
from functools import cache
from importlib import import_module
from typing import Any

from mmengine.logging import print_log
from torch import nn

from medseg_kd.errors import UserError, did_you_mean, first_line
from medseg_kd.models.checkpoint import load_weights, read_checkpoint
from medseg_kd.models.weights.stem import fit_stem
from medseg_kd.registry import FINDERS

_PACKAGE = "segmentation_models_pytorch"
SCOPES = ("smp", _PACKAGE)
"""What names of its networks begin with."""
_FILES = (".safetensors", ".pth", ".pt", ".bin")


def find(key: str) -> type[nn.Module]:
    """A network by ``smp.<Name>``, or by its full path, as a dumped config has it.

    Raises:
        UserError: The package is not installed or cannot be imported, or has no such network.
    """
    try:
        smp = import_module(_PACKAGE)
    except ImportError as error:
        install = ". pip install segmentation-models-pytorch" if isinstance(error, ModuleNotFoundError) else ""
        raise UserError(f"{key} needs {_PACKAGE}: {first_line(error)}{install}") from error
    networks = {kind.__name__: kind for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    name = key.rpartition(".")[2]
    if name not in networks:
        hint = did_you_mean(name, networks, f"; there are {', '.join(networks)}")
        raise UserError(f"{key} is no network of {_PACKAGE}{hint}")
    return _ours(networks[name])


FINDERS.update(dict.fromkeys(SCOPES, find))


class _Network(nn.Module):
    """What :func:`_ours` puts before a class of the package."""

    encoder: Any
    _theirs: type[nn.Module]
    _options: dict[str, Any]
    _encoder_weights: Any

    @property
    def size_divisor(self) -> int:
        """What height and width have to be multiples of; DPT halves the grid of its patches once more."""
        return int(self.encoder.output_stride) * (2 if type(self).__name__ == "DPT" else 1)

    def init_weights(self) -> None:
        """Load ``encoder_weights``, when training starts.

        Raises:
            UserError: They cannot be read or downloaded, or belong to another encoder.
        """
        wanted = self._encoder_weights
        if wanted in (None, False):
            return
        if isinstance(wanted, str) and wanted.endswith(_FILES):
            weights = {_plain(key): value for key, value in read_checkpoint(wanted)["state_dict"].items()}
            own = {key: weights[_plain(key)] for key in self.encoder.state_dict() if _plain(key) in weights}
            load_weights(self.encoder, fit_stem(own, self.encoder, wanted), f"network.encoder_weights={wanted}")
        else:
            self.encoder.load_state_dict(self._downloaded().encoder.state_dict())
        print_log(f"{type(self).__name__}'s encoder starts from {wanted}", "current")

    def _downloaded(self) -> Any:
        """The same network with the weights of its encoder that the package finds, downloads and fits."""
        try:
            return self._theirs(encoder_weights=self._encoder_weights, **self._options)
        except KeyError as error:  # the package's own words: which weights there are
            raise UserError(f"network.encoder_weights: {error.args[0]}") from error
        except Exception as error:  # of whatever the download is made with
            raise UserError(
                f"network.encoder_weights={self._encoder_weights!r}: model.safetensors of {self._origin()} cannot be "
                f"downloaded ({type(error).__name__}: {first_line(error)}). Download it elsewhere and name the file, "
                "encoder_weights='model.safetensors', or leave encoder_weights out to start from random weights"
            ) from error

    def _origin(self) -> str:
        """Where the Hugging Face hub has the weights."""
        name = self._options["encoder_name"]
        if name.startswith("tu-"):
            return str(getattr(import_module("timm").get_pretrained_cfg(name[3:]), "hf_hub_id", None) or name[3:])
        return str(_encoders()[name]["pretrained_settings"][self._encoder_weights]["repo_id"])


@cache
def _ours(kind: type[nn.Module]) -> type[nn.Module]:
    """The class that stands for one of the package; its name stays."""
    own = inspect.signature(kind.__init__)
    told = [each.replace(default=None) if each.name == "encoder_weights" else each for each in own.parameters.values()]

    def construct(self: Any, encoder_weights: Any = None, **options: Any) -> None:
        options = {"encoder_name": own.parameters["encoder_name"].default, **options}
        _check(kind.__name__, options, [*own.parameters])
        try:
            kind.__init__(self, encoder_weights=None, **options)
        except Exception as error:  # of the package and of timm, on arguments of the config
            raise UserError(f"smp.{kind.__name__} cannot be built: {first_line(error)}") from error
        self._options, self._encoder_weights = options, encoder_weights

    construct.__signature__ = own.replace(parameters=told)  # type: ignore[attr-defined]
    about = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__init__": construct, "_theirs": kind}
    return type(kind.__name__, (_Network, kind), {**about, "__signature__": own.replace(parameters=told[1:])})


def _encoders() -> dict[str, Any]:
    """The package's encoders beside those of timm."""
    return import_module(f"{_PACKAGE}.encoders").encoders


def _check(name: str, options: dict[str, Any], known: list[str]) -> None:
    """Refuse an encoder that is not there, arguments that it would ignore, and what gives more than logits."""
    encoder, timm = str(options["encoder_name"]), import_module("timm")
    if not (encoder in _encoders() or (encoder.startswith("tu-") and timm.is_model(encoder[3:]))):
        names = [*_encoders(), *(f"tu-{each}" for each in timm.list_models())]
        hint = did_you_mean(encoder, names, f". The others are {', '.join(_encoders())}")
        raise UserError(f"smp.{name} has no encoder_name {encoder!r}; timm's are called tu-<name>{hint}")
    if not encoder.startswith("tu-") and (extra := sorted(options.keys() - {*known})):
        hint = did_you_mean(extra[0], known, f"; it takes {', '.join(known[1:])}")
        raise UserError(f"smp.{name} with the encoder {encoder} has no key {extra[0]!r}{hint}")
    if options.get("activation") not in (None, "identity") or options.get("aux_params"):
        raise UserError(
            f"smp.{name}: losses and predictions take the logits alone. Leave out activation, and aux_params (a head "
            "that classifies whole images)"
        )


def _plain(key: str) -> str:
    """A weight's name without what features_only of timm changes in it: ``model.stages_0.`` for ``stages.0.``."""
    return re.sub("[._]", ".", re.sub(r"^(model\.)+", "", key))
