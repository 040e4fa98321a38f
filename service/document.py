"""What the documents that a run leaves behind are made of: plain, checked and frozen."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Part"]


class Part(BaseModel):
    """A part of a document; unknown fields and numbers that are none are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
