"""Membership inference: how well learned samples can be distinguished from held-out ones."""
