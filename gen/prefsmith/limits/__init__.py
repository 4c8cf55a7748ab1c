"""When an endpoint may be sent the next request: pure state machines, whose clock is an argument, and one pacer."""

from prefsmith.limits.estimate import TokenEstimate
from prefsmith.limits.limiter import Limiter, Outcome, Ticket
from prefsmith.limits.pacer import Pacer

__all__ = ["Limiter", "Outcome", "Pacer", "Ticket", "TokenEstimate"]
