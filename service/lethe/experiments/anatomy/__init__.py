"""The anatomy of forgetting: what happens to a network's weights, layers and predictions across a switch.

::

    study.py              what is dissected
    training.py           trains a learner as a service does, and records its path
    network.py            a network as a function of a vector of weights, layer by layer
    plane.py              surfaces over a plane through the path
    line.py               the barrier, and the quadratic approximation
    similarity.py         linear CKA
    readout.py            readout or representation
    forgetting_events.py  which samples, and what they became
    dissection.py         all of it, for one learner and one seed
    run.py                every learner and seed, as JSON
    checkpoints.py        the path of a service's weights, from its checkpoints alone
    sections.py           the HTML page, from figures.py and page.py
"""
