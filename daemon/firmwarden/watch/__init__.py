"""Watching for devices and releases: events are hints, scans are the truth (invariant 7)."""
