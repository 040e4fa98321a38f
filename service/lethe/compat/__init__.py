"""Lethe's learners in the interfaces of other libraries."""
