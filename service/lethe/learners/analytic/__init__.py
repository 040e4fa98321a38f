"""Learners whose state is a set of sums over samples, solved in closed form."""
