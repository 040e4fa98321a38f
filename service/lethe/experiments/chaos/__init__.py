"""Chaos: a service that is killed repeatedly must end in the same state as one that is not.

Every component runs in its own process, through the public commands.
"""
