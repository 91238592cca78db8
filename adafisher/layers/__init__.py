"""Which layers have curvature, and which form each gives to its factors and its diagonal.

``rule`` says what a kind of layer must tell; start there. ``affine`` and ``norms`` are the rules of
torch's layers, ``forms`` those of other libraries' layers, known by name and structure, and
``registry`` finds the rule of a module, a user's first. ``layer`` is one layer of a model with its
running factors and its pool of rows.
"""
