"""When a run that is done has learned nothing: its result is that of a constant prediction."""

MARGIN = 0.05
"""By which a result must be better, as a share of the constant's; of percents, of the share that is
right or wrong, whichever is less; of nats as they are, which is that share of a perplexity. A run
that has learned nothing ends beside the constant, not at it: 10.2 % where it has 10.0 %, 4.7755
where it has 4.7759."""


def is_collapsed(
    final: float | None, constant: float | None, *, higher_is_better: bool, unit: str
) -> bool:
    """Tell whether a result is no better than that of a constant prediction.

    Args:
        final: Of the run, on test; None: there is none.
        constant: Of the best constant prediction; None: it is not known.
        higher_is_better: Direction of the metric.
        unit: What it is counted in.

    Example:
        >>> is_collapsed(10.2, 10.0, higher_is_better=True, unit="%")
        True
        >>> is_collapsed(281.0, 340.0, higher_is_better=False, unit="")
        False
        >>> is_collapsed(93.0, 90.0, higher_is_better=True, unit="%")
        False
    """
    if final is None or constant is None:
        return False
    scale = {"%": min(constant, 100.0 - constant), "nats": 1.0}.get(unit, constant)
    gain = final - constant if higher_is_better else constant - final
    return gain <= MARGIN * abs(scale)
