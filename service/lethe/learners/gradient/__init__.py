"""Learners trained by gradient descent."""
