"""Arguments of prediction that commands have in common; nothing of PyTorch is imported for them."""

import argparse

from medseg_kd.inference.decoding import DECODINGS


def add_prediction_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how test.py and predict.py come from a network to labels."""
    parser.add_argument(
        "--tta", action="store_true", help="average over the flips and right angles that the training showed"
    )
    parser.add_argument(
        "--decode",
        choices=DECODINGS,
        default=DECODINGS[0],
        help="rankseg: the labels of the largest expected Dice of each slice (needs rankseg; default: %(default)s)",
    )
