"""Limits: how much may be sent, when, and for how much money. Pure state machines with a clock given from outside."""
