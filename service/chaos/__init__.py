"""Chaos: a service is killed again and again, and must end as the one that nobody touched.

Like the demo it stands above both halves of the project, and runs everything as a process of
its own through the project's public commands.
"""
