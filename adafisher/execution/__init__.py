"""How a step is carried out, and on how many processes.

``step`` has the three forms of the step one under another; start there. ``stepper`` chooses a form
for each parameter and ``fused`` compiles one of them. ``batched`` refreshes all factors at once.
``distributed`` pools rows over processes, ``sharding`` cuts curvature as parameters are cut, and
``scaling`` takes the loss scale of mixed precision out again.
"""
