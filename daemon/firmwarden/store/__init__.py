"""What must survive a power cut: devices, jobs, attempts, latches and wear, in one SQLite file with one writer.

``Store`` owns the connection and gives out transactions; a ``Ledger`` is one open transaction and speaks the
words of ``model``.  Nothing here judges: what follows what is ``model.TRANSITIONS``, the rest is the service's.
"""
