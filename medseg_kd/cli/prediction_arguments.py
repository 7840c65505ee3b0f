"""Arguments of prediction that commands have in common."""

import argparse

from medseg_kd.cli.choices import DECODINGS


def add_prediction_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how test.py and predict.py come from a network to labels."""
    add = parser.add_argument_group("from the network to labels").add_argument
    add("--tta", action="store_true", help="average over the flips and right angles that the training showed")
    add(
        "--decode",
        choices=DECODINGS,
        default=DECODINGS[0],
        help="rankseg: the labels of the largest expected Dice of each slice (needs rankseg; default: %(default)s)",
    )
