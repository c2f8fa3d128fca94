"""Simulated devices that can misbehave, for our own tests, for the demo and for users' tests.

``client`` is one device without IO: bytes and the time go in, bytes come out.  Below it are what a device is
made of: ``flash``, ``firmware`` (what it takes for a complete application), ``loader`` (what it does with an update
file), ``session`` (sequence numbers), ``profile`` (facts about real families) and ``faults``.  Above it ``ports`` puts
it on a pty or a TCP port, ``server`` runs many of them, ``command`` is the command line.

The simulator judges the truth from the device's side; it must not learn it from the host's.
"""
