"""Many runs and what they show: methods compared, values searched, statistics."""
