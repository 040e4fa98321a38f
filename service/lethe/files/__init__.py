"""Untrusted JSON, YAML and text are read or shown with limits; private files; HTML from templates."""
