"""``POST /visit``: a training job announces what a watched model is trained on next."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["AnnounceVisit", "visits_router"]

AnnounceVisit = Callable[[str | None, str | None], bool]
"""Takes segment and version, and returns false if too many visits wait already."""


class AnnouncedVisit(BaseModel):
    """From now on the model is trained on another segment, or another version of it serves."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    segment: str | None = None
    """Name of the segment's probe; by default that of the probe that improves most."""
    version: str | None = Field(default=None, max_length=256)


class Accepted(BaseModel):
    """The visit begins with the next evaluation, which is made at once."""

    segment: str | None
    version: str | None


class Refused(BaseModel):
    """The reason why a visit was refused."""

    detail: str


def visits_router(probes: Sequence[str], announce: AnnounceVisit) -> APIRouter:
    """Return the route; ``announce`` takes the visits, from any thread."""
    router = APIRouter()

    @router.post(
        "/visit",
        status_code=202,
        summary="Announce that another segment or version of a watched model begins",
        responses={
            422: {"model": Refused, "description": "No probe has the name of the segment."},
            503: {"model": Refused, "description": "Too many visits wait."},
        },
    )
    def visit(announced: AnnouncedVisit) -> Accepted:
        if announced.segment is not None and announced.segment not in probes:
            raise HTTPException(422, f"segment: must be the name of a probe: {', '.join(probes)}")
        if not announce(announced.segment, announced.version):
            raise HTTPException(503, "too many visits wait for the next evaluation", {"Retry-After": "10"})
        return Accepted(segment=announced.segment, version=announced.version)

    return router
