"""A page of what a network is trained on: batches, labels, intensities, classes."""
