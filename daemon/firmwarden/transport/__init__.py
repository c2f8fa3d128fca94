"""Byte links to devices: the only layer that touches ports and sockets.

Above it there is a ``Link`` and our own errors; nobody there names an error of pyserial or the socket module, nor
knows whether a UART or a network lies between.  It judges nothing: deadlines and contents are the business of the
protocol machines that it runs.
"""
