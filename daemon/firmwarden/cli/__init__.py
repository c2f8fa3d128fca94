"""The command line: commands and exit codes.

Against the running daemon it only speaks HTTP to its socket and turns answers into words; such a command imports
nothing but click and the standard library, so that it starts fast.  Whatever needs the rest of the
package (``run``, ``update``, ``simulate``) imports it when it is called.
"""

from firmwarden.cli.root import main

__all__ = ["main"]
