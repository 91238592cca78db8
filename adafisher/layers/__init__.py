"""Which layers have curvature, and which form each gives to its factors and its diagonal."""
