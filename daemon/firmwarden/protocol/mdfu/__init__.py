"""MDFU, the Microchip Device Firmware Update protocol: codecs and the host, without IO.

``packet`` and ``client_info`` are what is said, ``framing`` is how it looks on a serial line, ``host`` is
who says what when.  A client can be built from the first three.
"""
