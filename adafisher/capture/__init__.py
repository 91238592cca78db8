"""Who sees the inputs of layers and the gradients at their outputs, and when these count.

``capture`` says when rows count, and moves them from a call to the step; start there. ``discovery``
finds the layers, ``hooks`` are put on them and on the model, ``reader_hooks`` and ``calls`` on
modules that read a weight without calling its layer. ``passes`` is a backward pass with the rows in
it, ``clearing`` finds out that gradients are gone, and ``reads`` that a weight was read unseen.
"""
