"""Measuring what is still known: probe sets, formulas, history."""
