"""Differentially private learners."""
