"""The demo: a broker, a producer and several services side by side, as a user would start them.

It stands above both halves of the project and is the only place that knows both. Everything
runs as a process of its own through the project's public commands.
"""
