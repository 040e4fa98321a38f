"""Checkpoints and the state folder that holds them."""
