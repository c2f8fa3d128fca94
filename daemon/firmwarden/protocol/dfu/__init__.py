"""USB DFU 1.0 and 1.1 and ST's DfuSe (1.1a): codecs, the device's states and the host, without IO.

``descriptors``, ``requests``, ``dfuse`` and ``memory_map`` are what is said; ``states`` is what a device does with
it, as one table for hosts and simulators alike; ``quirks`` is what real devices do instead.  ``conversation`` is
how a host asks a shell to say it, ``host`` and ``dfuse_host`` are who says what when.
"""
