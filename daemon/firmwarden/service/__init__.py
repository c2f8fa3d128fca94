"""The service itself: who is here, what should run, what is tried next, and what is remembered."""
