"""The base of every section of settings."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Section"]


class Section(BaseModel):
    """Frozen; an unknown key is an error; the docstring under a field is its help text.

    A field's flag is ``--SECTION-FIELD`` unless its ``json_schema_extra`` names another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
