"""Base classes of pydantic models: sections of settings, and JSON documents."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Document", "Section"]


class Section(BaseModel):
    """A section of settings: frozen, rejects unknown keys; a field's docstring is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Document(BaseModel):
    """A JSON document or an object in one: frozen, rejects unknown fields and non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
