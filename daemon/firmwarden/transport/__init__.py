"""Byte links and control pipes to devices: the only layer that touches ports, sockets and the USB.

Above it there is a ``Link`` or a ``UsbLink`` and our own errors; nobody there names an error of pyserial, pyusb or the
socket module, nor knows whether a UART or a network lies between.  It judges nothing: deadlines and contents are the
business of the protocol machines that it runs.
"""
