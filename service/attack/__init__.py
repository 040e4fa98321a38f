"""Leakage, measured: how well a stranger can tell what a learner has learned from what it has not.

Like the demo, it stands above both halves of the project: the data come from the producers' side.
"""
