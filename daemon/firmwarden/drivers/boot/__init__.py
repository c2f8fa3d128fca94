"""What silicon does when it loses power in the middle of an update, and in which order to write so that it comes back.

All of it is pure: facts as data (``facts``, ``families``, ``lookup``), what an interruption leaves (``outlook``), the
order of an update (``procedures``), what is checked before the first erase (``preflight``) and how an update
that was cut is gone on with (``recovery``).  Nothing in here talks to a device or knows a clock; the DFU driver does
what these modules say, and a simulated device is cut at every step of it.

No step that comes out of here writes option bytes.  They decide how a device boots, and if the power fails while
they are written the part may be locked for good (RM0444, 3.4; RM0440, 3.4).
"""
