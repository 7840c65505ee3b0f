"""Names that arguments choose from, said here too: to import what has them takes seconds.

A test compares each with its original.
"""

METHODS = ("KD", "AT", "DKD", "DIST", "CWD", "ReviewKD", "LSKD", "MGD", "CIRKD", "AttnFD", "IFVD", "BPKD")
WEIGHT_SOURCES = ("missformer", "transunet", "mednext", "swin_unetr", "attn_unet", "mmengine", "resnet", "mmseg_kd")
DATA_SETS = {"acdc": ("published", "official"), "isic2018": ("official",), "kvasir-seg": ("pranet", "official")}
"""Published data sets, and how each can be split."""
PROTOCOLS = ("transunet", "strict")
HD95_CONVENTIONS = ("medpy", "monai", "deepmind")
MASK_MEASURES = ("Dice", "Jaccard", "HD95", "ASD", "NSD", "RAVD", "AVD")
DECODINGS = ("argmax", "rankseg")
EXPORT_KINDS = (".onnx", ".xml", ".safetensors")
