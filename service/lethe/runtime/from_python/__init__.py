"""Learning from Python: the loop, evaluation and scores of the service, over objects in memory or a topic.

::

    images.py   arrays, datasets and iterators as samples; their layout
    labels.py   labels and the names of classes
    learn.py    the loop over a feed in memory
    run.py      lethe.run
    topic.py    lethe.run_topic
    result.py   lethe.Run: what both return
"""
