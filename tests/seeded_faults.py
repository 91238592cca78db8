"""Show that the tests see what matters: ``python tests/seeded_faults.py [--only ID] [COMMIT]``.

Puts one fault at a time into the code of ``COMMIT`` (default: ``HEAD``) and runs the few tests that
must fail then, and once, without any fault, all of these, which must pass. A fault is a change of
one line, found by its text anywhere in its package, and a test by its name anywhere under
``tests/``, so that both are found in commits that have them in other files. Exits 1 unless every
fault is caught. It takes about six minutes of one core.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 900


class Fault(NamedTuple):
    """A change of one line.

    Attributes:
        name: Its id.
        package: Where it is made.
        text: Part of a line, with of the next what tells it from others; once in the package.
        fault: What stands there instead.
        tests: Names of tests, as pytest has them after the file, of which at least one must fail;
            those that a commit lacks, as they have other names there, are left out.
    """

    name: str
    package: str
    text: str
    fault: str
    tests: str


FAULTS = (
    Fault(
        "ema-coefficient",
        "adafisher",
        "add_(estimate, alpha=1.0 - gammas[1])",
        "add_(estimate, alpha=gammas[1])",
        "test_preset_follows_its_recursion",
    ),
    Fault(
        "min-max-range",
        "adafisher",
        "each(low), out=out).div_(each(spread + eps))",
        "each(low), out=out).div_(each(high + eps))",
        "test_min_max_spans_zero_to_one_whatever_the_scale",
    ),
    Fault(
        "constant-factor",
        "adafisher",
        'float(constant_factor == "ones")',
        'float(constant_factor == "zeros")',
        "test_constant_factor_becomes_ones",
    ),
    Fault(
        "native-decay",
        "adafisher",
        "step.keep, step.damping = 1.0 - hyper.shrink,",
        "step.keep, step.damping = 1.0 - 2 * hyper.shrink,",
        "test_steps_are_those_of_the_plain_form_under_every_rule",
    ),
    Fault(
        "native-places",
        "adafisher",
        "and update.terms is self._terms",
        "and True",
        "test_tensors_that_are_exchanged_are_found_out",
    ),
    Fault(
        "terms-that-are-copies",
        "adafisher",
        "return _memory(x) in (_memory(self.normalised),",
        "return _memory(x) not in (None,",
        "test_every_case_follows_the_reference",
    ),
    Fault(
        "momentum",
        "adafisher",
        "torch._foreach_lerp_(exp_avgs, grads, 1.0 - ",
        "torch._foreach_lerp_(exp_avgs, grads, 0.0 + ",
        "test_the_package_takes_the_steps_of_the_page",
    ),
    Fault(
        "bias-correction",
        "adafisher",
        '/ (1.0 - hyper.beta ** state["step"])',
        '/ (1.0 - hyper.beta ** (state["step"] + 1))',
        "test_the_package_takes_the_steps_of_the_page",
    ),
    Fault(
        "decoupled-decay-without-lr",
        "adafisher",
        'shrink=group["lr"] * decay if',
        "shrink=decay if",
        "test_the_package_takes_the_steps_of_the_page",
    ),
    Fault(
        "decay-of-norms",
        "adafisher",
        'if "Norm" in type(module).__name__',
        'if "Norm" not in type(module).__name__',
        "test_which_parameters_decay",
    ),
    Fault(
        "even-kernel-padding",
        "adafisher",
        "(total // 2, total - total // 2)",
        "(total - total // 2, total // 2)",
        "test_every_case_follows_the_reference",
    ),
    Fault(
        "transposed-convolution",
        "adafisher",
        "dilation * torch.arange(kernel, device=device) - padding",
        "dilation * torch.arange(kernel, device=device) + padding",
        "test_layers_of_any_number_of_axes_against_patches_cut_out_one_by_one",
    ),
    Fault(
        "padding-token-counts",
        "adafisher",
        "counts[padding_idx] = 0.0",
        "counts[padding_idx] = 1.0",
        "test_every_case_follows_the_reference",
    ),
    Fault(
        "refresh-one-step-late",
        "adafisher",
        "self.step_count % self.options.update_interval == 0",
        "(self.step_count + 1) % self.options.update_interval == 0",
        "test_preset_follows_its_recursion",
    ),
    Fault(
        "rows-of-several-calls",
        "adafisher",
        "self.grad_sum = self.grad_sum + grad_sum",
        "self.grad_sum = grad_sum",
        "test_every_case_follows_the_reference",
    ),
    Fault(
        "loss-scale-not-squared",
        "adafisher",
        "grad_diag / scale.to(grad_diag).square()",
        "grad_diag / scale.to(grad_diag)",
        "test_scale_that_changes_with_and_without_clipping",
    ),
    Fault(
        "refresh-forgotten-on-load",
        "adafisher",
        'self.step_count = state["step"]',
        "self.step_count = 0",
        "test_restored_run_is_bit_identical",
    ),
    Fault(
        "bad-estimate-stored",
        "adafisher",
        "            if finite:",
        "            if True:",
        "test_non_finite_estimate_is_dropped_counted_and_leaves_no_trace",
    ),
    Fault(
        "evaluation-in-train-seconds",
        "experiments",
        "counters.evaluation_seconds += built",
        "counters.train_seconds += built",
        "test_passes_over_the_test_split_have_a_clock_of_their_own",
    ),
    Fault(
        "every-epoch-in-one-order",
        "experiments",
        'seeding.derive(self.seed, "data", epoch)',
        'seeding.derive(self.seed, "data")',
        "test_each_epoch_has_an_order_of_its_own",
    ),
    Fault(
        "seeds-unpaired",
        "experiments",
        "for part in (seed, *names))",
        "for part in (torch.initial_seed(), *names))",
        "test_methods_of_one_seed_share_weights_batches_and_dropout",
    ),
    Fault(
        "train-loss-not-weighted",
        "experiments",
        "counters.loss_sum += loss * count",
        "counters.loss_sum += loss",
        "test_the_training_loss_is_the_mean_over_all_rows_that_count",
    ),
    Fault(
        "padding-counts-in-evaluation",
        "experiments",
        "count=lambda targets: int((targets != IGNORE).sum()),",
        "count=lambda targets: targets.numel(),",
        "test_padding_counts_in_no_metric",
    ),
    Fault(
        "resume-loses-a-row",
        "experiments",
        'row["step"] <= last_step',
        'row["step"] < last_step',
        "test_rows_beyond_the_checkpoint_are_cut_with_a_half_line",
    ),
    Fault(
        "resume-with-other-dropout",
        "experiments",
        'torch.set_rng_state(rng["cpu"])',
        'torch.Generator().set_state(rng["cpu"])',
        "test_a_stopped_run_ends_like_an_unbroken_one[dropout-5]",
    ),
    Fault(
        "final-by-test",
        "experiments",
        "chosen = _best_row(rows, on_validation, higher_is_better)",
        "chosen = _best_row(rows, on_test, higher_is_better)",
        "test_final_and_best",
    ),
    Fault(
        "tuned-on-test",
        "experiments",
        'row.get(f"validation_{measure}")',
        'row.get(f"test_{measure}")',
        "test_the_test_set_is_never_looked_at test_a_trial_is_its_best_evaluation",
    ),
    Fault(
        "trial-of-its-luckiest-seed",
        "experiments",
        "metric = max(parts, key=lambda part: part.cost).metric",
        "metric = min(parts, key=lambda part: part.cost).metric",
        "test_a_trial_of_several_seeds_is_the_worst_of_them",
    ),
    Fault(
        "halving-keeps-the-worse-half",
        "experiments",
        "[: math.ceil(len(valued) / 2)]",
        "[len(valued) // 2 :]",
        "test_halving_keeps_the_better_half_at_each_rung",
    ),
    Fault(
        "target-from-the-wrong-side",
        "experiments",
        "value >= target if task.higher_is_better else value <= target",
        "value <= target if task.higher_is_better else value >= target",
        "test_a_target_ends_the_run_at_the_first_evaluation_that_reaches_it",
    ),
    Fault(
        "cosine-rises",
        "experiments",
        "0.5 * (1.0 + math.cos(",
        "0.5 * (1.0 - math.cos(",
        "test_cosine_per_epoch_is_that_of_torch",
    ),
    Fault(
        "matched-time-inverted",
        "experiments",
        "round(reference_steps / self.ratio)",
        "round(reference_steps * self.ratio)",
        "test_the_steps_are_those_of_the_reference_over_the_ratio",
    ),
    Fault(
        "group-of-one-seed",
        "experiments",
        '.items() if key != "seed"})',
        ".items() if key})",
        "test_seeds_share_a_group",
    ),
    Fault(
        "id-without-the-precision",
        "experiments",
        '"untuned",\n    "memory_limit_gb",',
        '"untuned", "precision",\n    "memory_limit_gb",',
        "test_id_depends_on_everything_that_is_measured",
    ),
    Fault(
        "kfac-damping-not-split",
        "experiments",
        "torch.where(split, (root / ratio)",
        "torch.where(split, (root * ratio)",
        "test_damping_is_split_by_the_mean_eigenvalues",
    ),
    Fault(
        "shampoo-exponent",
        "experiments",
        "eigenvalues.pow(-0.5 / order)",
        "eigenvalues.pow(-1.0 / order)",
        "test_inverse_root_of_a_diagonal_is_exact",
    ),
    Fault(
        "std-of-the-population",
        "analysis",
        "np.sqrt(np.where(equal, 0.0, squares) / (n - 1))",
        "np.sqrt(np.where(equal, 0.0, squares) / n)",
        "test_mean_std_and_interval_are_those_of_statistics_and_scipy",
    ),
    Fault(
        "t-for-z",
        "analysis",
        "found.append(-np.sign(t) * ndtri(stdtr(n - 1, -np.abs(t))))",
        "found.append(t)",
        "test_z_has_the_p_value_of_the_paired_t_test",
    ),
    Fault(
        "winner-tuned-again",
        "experiments",
        "loser = max(reversed(SIDES), key",
        "loser = min(reversed(SIDES), key",
        "test_the_loser_is_tuned_again_before_the_looks_and_seeds_come_in_stages",
    ),
    Fault(
        "warm-up-from-zero",
        "experiments",
        "return min(1.0, (progress + first) / warm_up)",
        "return min(1.0, progress / warm_up)",
        "test_every_step_is_that_of_torch_with_a_linear_warm_up_in_front",
    ),
    Fault(
        "t-test-of-one-side",
        "analysis",
        "float(2 * stdtr(",
        "float(stdtr(",
        "test_student_is_the_paired_t_test_of_scipy",
    ),
    Fault(
        "results-paired-by-rank",
        "analysis",
        "([float(of[seed]) for seed in common] for of",
        "(sorted(float(of[seed]) for seed in common) for of",
        "test_student_is_the_paired_t_test_of_scipy",
    ),
    Fault(
        "no-holm-correction",
        "analysis",
        "min(1.0, (family - rank) * p)",
        "p",
        "test_holm_by_hand",
    ),
    Fault(
        "leader-is-the-worst",
        "analysis",
        "top = max(means.values()) if higher else min(means.values())",
        "top = min(means.values()) if higher else max(means.values())",
        "test_the_best_is_better_than_every_other",
    ),
    Fault(
        "less-tuned-loser-accepted",
        "analysis",
        "all(mine <= others for",
        "all(mine >= others for",
        "test_unequal_effort_refuses_better_unless_told_so test_efforts",
    ),
    Fault(
        "diverged-and-still-better",
        "analysis",
        "{BETTER: ours, WORSE: theirs}",
        "{BETTER: theirs, WORSE: ours}",
        "test_a_method_that_diverged_is_not_better_on_the_seeds_that_are_left",
    ),
    Fault(
        "reproduced-by-one-end",
        "analysis",
        "-margin <= low and high <= margin",
        "-margin <= low or high <= margin",
        "test_outcomes",
    ),
    Fault(
        "published-std-as-it-stands",
        "analysis",
        "np.sqrt(self.runs / (self.runs - 1))",
        "np.sqrt(1.0)",
        "test_with_a_published_spread_the_interval_is_welchs",
    ),
    Fault(
        "speed-up-inverted",
        "analysis",
        "value = base.amount / own.amount",
        "value = own.amount / base.amount",
        "test_speed_up_by_hand",
    ),
    Fault(
        "ties-are-wins",
        "analysis",
        "(ahead > 0) + 0.5 * (ahead == 0)",
        "(ahead > 0) + 1.0 * (ahead == 0)",
        "test_of_one_task_it_is_the_mann_whitney_statistic_a_pair",
    ),
    Fault(
        "arithmetic-mean-of-costs",
        "analysis",
        "np.log(np.mean(sample, axis=axis))",
        "np.mean(np.log(sample), axis=axis)",
        "test_score_by_hand",
    ),
    Fault(
        "test-not-looked-at-where-best",
        "experiments",
        "not built.tests_at_best or is_best or self._is_used_up()",
        "not built.tests_at_best or self._is_used_up()",
        "test_a_run_that_looks_at_test_where_validation_is_best_has_the_same_final",
    ),
    Fault(
        "best-validation-forgotten",
        "experiments",
        "            counters.best_validation = value\n",
        "            self._best_validation = value\n",
        "test_a_run_that_looks_at_test_where_validation_is_best_has_the_same_final",
    ),
    Fault(
        "collapsed-on-the-other-side",
        "experiments",
        "gain = final - constant if higher_is_better else constant - final",
        "gain = constant - final if higher_is_better else final - constant",
        "test_collapsed",
    ),
    Fault(
        "constant-of-padding",
        "experiments",
        "torch.bincount(seen[seen != IGNORE], ",
        "torch.bincount(seen.clamp(min=0).flatten(), ",
        "test_of_text_it_is_the_unigram_model",
    ),
    Fault(
        "listed-steps-by-the-inverse-ratio",
        "experiments",
        "max(1, round(reference_steps / self.ratio))",
        "max(1, round(reference_steps * self.ratio))",
        "test_the_file_has_the_steps_of_each_method_nearest_to_the_references_time",
    ),
    Fault(
        "listed-steps-of-another-setting",
        "experiments",
        '        if then != now:\n            raise UserError(\n                f"Invalid budget',
        '        if False:\n            raise UserError(\n                f"Invalid budget',
        "test_what_was_not_timed_is_refused_in_one_line",
    ),
    Fault(
        "plan-without-test-passes",
        "experiments",
        "(cost.validation_seconds + share * test)",
        "(cost.validation_seconds)",
        "test_evaluations_and_the_start_count",
    ),
    Fault(
        "small-letters",
        "analysis",
        "SMALL, LEAST_FONT = 7.0, 6.3, 6.0",
        "SMALL, LEAST_FONT = 7.0, 5.3, 6.0",
        "test_the_golden_runs[test_metric_vs_epoch]",
    ),
    Fault(
        "colours-by-the-worst",
        "analysis",
        "v > value if higher_is_better",
        "v < value if higher_is_better",
        "test_of_many_methods_the_named_and_the_best_are_in_colour",
    ),
    Fault(
        "squeezed-axis",
        "analysis",
        "0 < spread < SQUEEZED * span",
        "0 > spread",
        "test_the_axis_spans_what_the_lines_do_after_the_start",
    ),
    Fault(
        "stale-pictures",
        "analysis",
        'folder / f"{name}.{ending}").unlink(missing_ok=True)',
        'folder / f"{name}.{ending}").exists()',
        "test_formats_that_are_not_asked_for_are_not_drawn_and_old_ones_go",
    ),
    Fault(
        "white-in-the-dark",
        "analysis",
        "return color if color in FIXED else",
        "return color if color else",
        "test_colours_are_variables_that_fall_back_to_themselves",
    ),
)


def main() -> int:
    """Try the faults; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="ID", help="one fault alone")
    parser.add_argument("commit", nargs="?", default="HEAD", help="whose code is tried")
    given = parser.parse_args()
    names = [fault.name for fault in FAULTS]
    if given.only not in (None, *names):
        sys.exit(f"error: Invalid --only: {given.only}. Must be one of: {', '.join(names)}.")
    chosen = [fault for fault in FAULTS if given.only in (None, fault.name)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), given.commit)
        try:
            return _try_all(chosen, tree, given.commit)
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _try_all(faults: list[Fault], tree: Path, commit: str) -> int:
    _check_import(tree)
    places = {fault.name: _find_tests(fault, tree) for fault in faults}
    every = sorted({place for found in places.values() for place in found})
    code, output = _pytest(tree, every) if every else (0, "")
    if code:
        sys.exit(f"error: without a fault, pytest exits {code}:\n{output[-2000:]}")
    print(f"without a fault: {len(every)} tests pass", flush=True)
    results = []
    for fault in faults:
        began = time.monotonic()
        results.append(_try(fault, tree, places[fault.name]))
        seconds = time.monotonic() - began
        print(f"{fault.package:<12}{fault.name:<32}{seconds:4.0f} s  {results[-1]}", flush=True)
    caught = results.count("caught")
    print(f"{caught} of {len(faults)} faults are caught in {commit}")
    return 0 if caught == len(faults) else 1


def _try(fault: Fault, tree: Path, tests: list[str]) -> str:
    """Make one fault, see what its tests say, and take it back."""
    if not tests:
        return "test not found"
    sources = {path: path.read_text("utf-8") for path in (tree / fault.package).rglob("*.py")}
    holders = [path for path, text in sources.items() if fault.text in text]
    if len(holders) != 1 or sources[holders[0]].count(fault.text) != 1:
        return f"text found in {len(holders)} files, must be once in one"
    (path,) = holders
    path.write_text(sources[path].replace(fault.text, fault.fault), "utf-8")
    try:
        code, output = _pytest(tree, tests)
    finally:
        path.write_text(sources[path], "utf-8")
    if code == 1:
        return "caught"
    return "NOT caught" if code == 0 else f"pytest exits {code}: {output[-500:]}"


def _find_tests(fault: Fault, tree: Path) -> list[str]:
    """Addresses of the tests of a fault in this tree."""
    found: list[str] = []
    for name in fault.tests.split():
        defined = re.compile(rf"^def {name.partition('[')[0]}\(", re.MULTILINE)
        files = [
            path
            for path in sorted((tree / "tests").rglob("test_*.py"))
            if defined.search(text := path.read_text("utf-8")) and _has_case(name, text)
        ]
        found += [f"{path.relative_to(tree)}::{name}" for path in files]
    return found


def _has_case(name: str, text: str) -> bool:
    """Whether a file has the words of the parameters of a test."""
    return all(word in text for word in re.findall(r"[a-z_]{3,}", name.partition("[")[2]))


def _check_import(tree: Path) -> None:
    """Refuse to test other code than that of the tree, such as an installed package."""
    done = _run(tree, "-c", "import adafisher; print(adafisher.__file__)")
    if not Path(done.stdout.strip()).is_relative_to(tree.resolve()):
        sys.exit(f"error: adafisher is imported from {done.stdout.strip()}, not from {tree}.")


def _pytest(tree: Path, tests: list[str]) -> tuple[int, str]:
    words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not gpu", *tests]
    try:
        done = _run(tree, "-m", "pytest", *words)
    except subprocess.TimeoutExpired:
        return -1, f"not done after {LIMIT_SECONDS} s"
    return done.returncode, done.stdout + done.stderr


def _run(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=tree,
        # Without byte code: a fault may leave a file its size and its second.
        env={
            **os.environ,
            "PYTHONPATH": str(tree),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
