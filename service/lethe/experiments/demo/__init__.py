"""The demo: a broker, a producer and several services side by side.

Every component runs in its own process, through the public commands.
"""
