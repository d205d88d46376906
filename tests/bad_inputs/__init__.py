"""The 25 bad inputs of a hospital share, built on disk, and 25 sound ones that look like them.

`faults.py` says what a fault is; `volumes.py`, `series.py` and `tables.py` build them. `sound.py`
builds their neighbours: each is what a fault must not be mistaken for.
"""
