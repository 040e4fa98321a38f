"""Learners: a model with its training strategy, one algorithm per file."""
