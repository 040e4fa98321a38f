"""Which policy a service is held to."""

from pathlib import Path

from pydantic import Field

from service.section import Section

__all__ = ["PrivacySettings"]


class PrivacySettings(Section):
    """What may be kept, and for how long."""

    policy: Path | None = Field(default=None, json_schema_extra={"flag": "--policy"})
    """One of lab, clinic and vault, or a file like these (deploy/policies/): the service is held to it, and
    needs --state for its ledger."""
