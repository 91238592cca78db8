"""Baselines that torch does not have: K-FAC and Shampoo in front of SGD."""
