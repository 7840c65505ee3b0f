"""What is wrong with a whole data set: all of it, where a training stops at the first."""
