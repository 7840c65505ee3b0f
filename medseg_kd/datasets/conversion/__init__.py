"""From volumes to the TransUNet layout: pairing, checks, reorientation, windowing, label maps, writing."""

from medseg_kd.datasets.conversion.convert import Recipe, convert
from medseg_kd.datasets.conversion.label_maps import SYNAPSE_CLASSES, LabelMap, load_label_map
from medseg_kd.datasets.pairs import Pair, find_pairs

__all__ = ["SYNAPSE_CLASSES", "LabelMap", "Pair", "Recipe", "convert", "find_pairs", "load_label_map"]
