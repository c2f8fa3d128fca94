"""Protocols as pure machines: bytes and time-outs in, events out; no IO, clock, randomness or log."""
