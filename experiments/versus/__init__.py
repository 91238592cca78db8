"""Which of two methods is better here: tuned alike, frozen, and looked at by stages.

``comparison`` is the record, ``series`` the runs, ``sentence`` what is said; the statistics are
those of ``analysis``, which is asked in a process of its own: neither package imports the other.
"""
