"""Watches a model that Lethe does not train: asks it about the probes, and measures what it forgets.

::

    targets/       how a model is asked: over HTTP, as a Python function, as checkpoints in a folder
    asking.py      asks about many images at once, within a number of requests a minute
    panel.py       the images of the probes, and the latest answer to each
    visits.py      when another segment or version begins, as users announce it
    watcher.py     the loop: round after round, evaluations as in a run
    watch_state.py what survives a restart
    beside.py      models that other services watch, for the live page
    served_model.py which of several models is to be served, with receipts
    service.py     puts all of it together
"""
