"""Benchmarks: commands that print the machine's number of cores and medians of their measurements."""
