"""Renders HTML from templates; the base template and its style, which all documents share."""
