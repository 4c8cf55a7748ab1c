"""When an endpoint may be sent the next request, and whether the budget bears it: pure state machines, whose clock is
an argument, and one pacer."""

from prefsmith.limits.budget import Budget, Standing
from prefsmith.limits.estimate import TokenEstimate
from prefsmith.limits.limiter import Limiter, Outcome, Ticket
from prefsmith.limits.pacer import Pacer
from prefsmith.limits.room import Room

__all__ = ["Budget", "Limiter", "Outcome", "Pacer", "Room", "Standing", "Ticket", "TokenEstimate"]
