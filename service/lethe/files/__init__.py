"""Untrusted JSON and YAML are read with limits, private files written, HTML rendered from templates."""
