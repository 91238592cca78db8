"""Published beside reproduced: one verdict for each row of ``published.csv``."""

from __future__ import annotations

import pandas as pd

from analysis.published.conformity import IGNORED
from analysis.published.numbers import ACCURACY, NAMES, PERPLEXITY, read_published, records
from analysis.published.row_verdicts import (
    DIFFERS,
    INCONCLUSIVE,
    NOT_COMPARABLE,
    NOT_RUN,
    REPRODUCED,
    RowVerdicts,
)
from analysis.published.shipped import Shipped, shipped
from analysis.results.load import Results
from analysis.statistics.equivalence import FEWEST_SEEDS
from analysis.statistics.summary import LEVEL

OUTCOMES = (REPRODUCED, DIFFERS, INCONCLUSIVE, NOT_COMPARABLE, NOT_RUN)
RULE = f"""\
A run counts for a published row if record and configuration both name it so (published_as: data \
set and vocabulary, model definition, update rule), if it starts from the same weights, and if it \
follows the published protocol as the shipped experiment has it: ruleset paper with its \
hyperparameters, the paper's epochs for the method, all of task (data, augmentation, batch), \
model, schedule and tokenisation, float32, and training on all of train without a validation \
split (texts have a validation part of their own). Not compared are {", ".join(IGNORED)}. Of \
several configurations that follow it the one most like the experiment counts, of several \
accepted recipes the first that was run; no result has a say in it. Accuracies are each run's \
best test epoch, as published; perplexities are perplexity_paper after the last epoch, as the \
released script has them. The interval is of the difference of means, ours minus published, at \
{LEVEL:.0%} by Student's t; a published standard deviation is the population's over its runs \
(Table 2: five; elsewhere their number is unknown, and the fewest possible is taken: two with a \
standard deviation, one without); where none is published, those runs are taken to scatter as ours \
do. \
Reproduced: the interval lies within {ACCURACY.margin} percentage points for accuracies, within \
{PERPLEXITY.margin:g} % for perplexities. Differs (higher or lower, of the number): it lies \
wholly beyond. Inconclusive: neither, or fewer than {FEWEST_SEEDS} seeds, or some but not all \
runs diverged, or one ended without a finite result, or no two seeds differ; the seeds given \
would decide it if mean and spread stayed as they are. All runs diverged, {FEWEST_SEEDS} or more: \
differs, on the worse side. Not comparable: there are runs, but of other data, another model, \
tokenisation or protocol, or the row is of other hardware or of the literature. Each row is \
judged alone: of rows whose true difference is the margin, one in forty is said to be reproduced \
and one to differ. That holds for a number of seeds fixed beforehand: who adds seeds until a row \
is decided errs more often."""
COLUMNS = {
    "table": "number of the published table",
    "dataset": "as in published.csv",
    "model": "as in published.csv",
    "setting": "as in published.csv",
    "optimizer": "as in published.csv",
    "metric": "as in published.csv",
    "published_mean": "as in published.csv",
    "published_std": "as in published.csv: population standard deviation; NaN where not published",
    "published_n": "runs behind it, NaN where unknown",
    "mean": "ours, over seeds; NaN where no run counts",
    "std": "ours, sample standard deviation; NaN where n < 2",
    "low": "lower end of the Student-t interval of our mean",
    "high": "its upper end",
    "n": "our seeds in the mean",
    "note": "n, what became of the other runs that count, and what would count too",
    "difference": "ours minus published, in `unit`",
    "difference_low": "lower end of its interval",
    "difference_high": "its upper end",
    "unit": "percentage points, or % of the published number",
    "margin": "largest difference that counts as reproduced, in `unit`",
    "level": "confidence level of both intervals",
    "outcome": "one of OUTCOMES",
    "verdict": "the outcome with its detail",
    "more_seeds": "seeds still needed; 0 if decided; NaN if not applicable, or beyond 1000",
    "recipe": "which of several accepted configurations of the row the runs follow; else empty",
    "run_ids": "runs that count, or that stand near but are not comparable",
    "command": "what runs it, or up to 20 of the seeds still needed; empty if nothing is to run",
}


NUMBERS = (
    *("published_mean", "published_std", "published_n", "mean", "std", "low", "high"),
    *("difference", "difference_low", "difference_high", "margin", "level", "more_seeds"),
)
BESIDE = (*NAMES, "rule", "protocol", "mean", "std", "low", "high", "n", "level", "note", "run_ids")


def verdicts(
    results: Results, published: pd.DataFrame | None = None, *, by: Shipped | None = None
) -> pd.DataFrame:
    """Judge every published row.

    Args:
        results: All runs.
        published: Of ``read_published``.
        by: What the configuration says of the rows; by default what was shipped.

    Returns:
        A row each, in the order of ``published``; columns and their meaning are ``COLUMNS``.
    """
    rows = read_published() if published is None else published
    judge = RowVerdicts(results, rows, shipped() if by is None else by)
    made = pd.DataFrame([judge.verdict(row) for row in records(rows)], columns=list(COLUMNS))
    return made.astype(dict.fromkeys(NUMBERS, float))


def beside(
    results: Results, published: pd.DataFrame | None = None, *, by: Shipped | None = None
) -> pd.DataFrame:
    """List runs of rules that are not the published one, for each published row; no verdict.

    Args:
        results: All runs.
        published: Of ``read_published``.
        by: What the configuration says of the rows; by default what was shipped.

    Returns:
        A row for each configuration of the seed's or the camera-ready's rule (whatever carries the
        published method's name without being it); columns ``BESIDE``: the names of the published
        row, ``rule``, ``protocol`` (what of it is not the published one; empty if nothing), and our
        numbers as in ``COLUMNS``.
    """
    rows = read_published() if published is None else published
    judge = RowVerdicts(results, rows, shipped() if by is None else by)
    lines = [line for row in records(rows) for line in judge.beside(row)]
    made = pd.DataFrame(lines, columns=list(BESIDE))
    return made.astype(dict.fromkeys(("mean", "std", "low", "high"), float))


def counts(made: pd.DataFrame) -> dict[str, int]:
    """Count the rows that have each outcome, in the order of ``OUTCOMES``, zeros too."""
    return {outcome: int((made["outcome"] == outcome).sum()) for outcome in OUTCOMES}
