"""Evaluation on probes: scores and their formulas, the history of a run, segments and boundaries."""
