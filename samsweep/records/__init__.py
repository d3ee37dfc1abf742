"""What is known of a cell, on disk: its identity, its record, its folder and its lock.

* :mod:`samsweep.records.identity` names a cell after what it trains.
* :mod:`samsweep.records.schema` is the form of ``record.json``.
* :mod:`samsweep.records.store` reads and writes a cell's folder.
* :mod:`samsweep.records.remaining_work` is what is left to do for a cell.
* :mod:`samsweep.records.lock` lets one process at a time work on a cell.
* :mod:`samsweep.records.provenance` is which code, machine and versions were used.

Nothing here needs torch, so that planning, status and analysis stay quick.
"""
