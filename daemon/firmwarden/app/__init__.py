"""The composition root: configuration to objects, one task group, signals, and the order of stopping."""

import sys

if "structlog" not in sys.modules:
    # Where structlog finds rich it imports all that prints tracebacks in colour, which nothing here does: a fifth of
    # the time that `firmwarden update` takes to start, and 8 MiB of the daemon.  None makes an import fail
    # (https://docs.python.org/3/reference/import.html#the-module-cache).
    _rich = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    if _rich is None:
        del sys.modules["rich"]
    else:
        sys.modules["rich"] = _rich
