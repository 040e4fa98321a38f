"""Benchmarks that compare within one run, in turns: this is what makes a ratio mean something."""
