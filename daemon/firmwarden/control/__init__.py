"""The control API: HTTP/1.1 over a unix socket, for the command line, scripts and browsers.

This layer translates between requests and the ``Desk``, and guards it: bodies are bounded and strict, slow
readers of the event stream are cut, every action carries the name of who asked for it.  It decides nothing
about devices and holds no state of its own.
"""
