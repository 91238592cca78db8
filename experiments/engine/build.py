"""From a resolved config to the objects of a run."""

import copy
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer

from experiments import seeding
from experiments.config import budget, code_files, targets
from experiments.config.run_config import RunConfig
from experiments.config.sections import MethodSection, Needs, Section
from experiments.engine import compute, decay, failures, parallel
from experiments.engine.built import Built
from experiments.engine.compute import Compute
from experiments.engine.evaluated import set_training
from experiments.engine.precision import Precision
from experiments.engine.ranks import Ranks, is_lost
from experiments.errors import UserError, one_line, refusal
from experiments.likelihood import LOGITS, Likelihood
from experiments.models import transfer
from experiments.optimizers import forms
from experiments.optimizers.scalar_control import ScalarControl
from experiments.records.calibration import Calibration
from experiments.tasks import few_samples
from experiments.tasks.batches import mapped
from experiments.tasks.task import Task


def build(
    config: RunConfig,
    world: Ranks | None = None,
    *,
    calibration: Calibration | None = None,
    task: Task | None = None,
    scales: Tensor | None = None,
) -> Built:
    """Build a run from its resolved config.

    Args:
        config: The resolved config.
        world: The processes that build it together; this one alone by default.
        calibration: What a step costs, for a budget that matches a training time.
        task: The config's task, where it is built already.
        scales: ``[steps]``, step sizes of a scalar control, which takes the optimizer's place.

    Raises:
        UserError: If a value is unusable; the message names section, value and bound.
    """
    world = Ranks() if world is None else world
    code_files.load(config.files)
    plan = compute.resolve(config)
    if task is None:
        task = world.together(lambda: build_task(config))
    for split in (task.train, task.validation, task.test):
        if split is not None:
            split.to(plan.device)
    channels_last = plan.lays_channels_last(images=task.unit == "images")
    batching = config.task.batching
    steps_per_epoch = batching.steps_per_epoch(len(task.train))
    limits = budget.limits(config.budget, steps_per_epoch=steps_per_epoch, calibration=calibration)
    seeding.seed_global(config.seed, "init")
    model = build_model(config.model, task)
    pretrained = load_pretrained(config, model)
    if limits.steps is None or limits.steps >= steps_per_epoch or batching.batch_size == 1:
        _check_smallest_batch(config, task, model)
    model = _placed(model, plan, channels_last=channels_last)
    stated_schedule = config.optimizer.schedule or config.schedule
    schedule = _construct(
        "schedule", budget.schedule_arguments(config.budget, stated_schedule.arguments)
    )
    if scales is None:
        method = _with_steps(_with_stream(config.optimizer, config.seed), limits)
        optimizer = build_optimizer(method, model)
        needs = config.optimizer.needs
        check_likelihood(config.optimizer, optimizer, task.objective.likelihood)
    else:
        optimizer, needs = build_control(config.optimizer, model, scales, limits), Needs()
    stated = config.optimizer.stated_form if scales is None else None
    return Built(
        task=task,
        model=model,
        optimizer=optimizer,
        form=forms.form_of(optimizer, stated),
        forward=_wrapped(model, plan),
        schedule=_call(
            f"schedule={stated_schedule.name}",
            schedule,
            horizon=limits.horizon,
            epoch=steps_per_epoch if limits.train_seconds is None else None,
        ),
        device=plan.device,
        batch_size=batching.batch_size,
        eval_batch_size=batching.eval_batch_size,
        evaluations_per_epoch=batching.evaluations_per_epoch,
        evaluate_every=batching.evaluate_every,
        curvature_by_layer=config.curvature_by_layer,
        tests_at_best=config.evaluate_test == "best" and task.validation is not None,
        steps_per_epoch=steps_per_epoch,
        limits=limits,
        observes_logits=needs.logits,
        pretrained=pretrained,
        creates_graph=needs.create_graph,
        takes_closure=needs.closure,
        keeps_gradients=needs.keep_gradients,
        ema=config.optimizer.ema if scales is None else None,
        precision=Precision(plan.precision, plan.device, loss_scale=plan.loss_scale),
        channels_last=channels_last,
        compiled=plan.compiled,
        strategy=plan.strategy,
        world=world,
    )


def _check_smallest_batch(config: RunConfig, task: Task, model: nn.Module) -> None:
    """Refuse a batch of one sample for a model that cannot be trained on it, as by BatchNorm.

    A copy of the model tries: whether there is one value a channel depends on all of its layers.
    """
    batching = config.task.batching
    if batching.smallest(len(task.train)) > 1:
        return
    inputs, _ = next(iter(task.train.batches(1)))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            copy.deepcopy(model).train()(mapped(Tensor.cpu, inputs))
    except ValueError as error:  # torch's, where the variance of a channel is that of one value
        what, way = f"The last of {len(task.train):,} training {task.unit}", "a larger one."
        if batching.batch_size == 1:
            what = f"Each of {len(task.train):,} training {task.unit}"
        else:
            way = "another one, or task.drop_last=true, which leaves that batch out."
        raise UserError(
            f"Invalid task.batch_size: {batching.batch_size}. {what} would be a batch of its own, "
            f"which model={config.model.name} refuses: {one_line(error)}. Choose {way}"
        ) from error


def _placed(model: nn.Module, plan: Compute, *, channels_last: bool) -> nn.Module:
    """Place the model as the optimizer gets it: on its device, and split if it is to be."""
    model = model.to(plan.device)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    if plan.strategy is not None:
        from experiments.engine.synced_norm import synchronise  # loads the compiler

        model = synchronise(model, plan.device)
    return parallel.split(model) if plan.strategy == "fsdp" else model


def _wrapped(model: nn.Module, plan: Compute) -> Callable[[Any], Any]:
    """Make what training calls; the hooks of the optimizer are on the model inside."""
    forward = parallel.replicate(model, plan.device) if plan.strategy == "ddp" else model
    return torch.compile(forward) if plan.compiled else forward


def build_task(config: RunConfig) -> Task:
    """Read the data of the config's task; a task of text gets the tokenization."""
    code_files.load(config.files)
    maker = _construct("task", config.task.data_arguments)
    text = {}
    if config.tokenization is not None:
        text["tokenization"] = _construct("tokenization", config.tokenization.arguments)
    taken = targets.accepted(maker)
    given = {"data_dir": config.data_dir, "cache_dir": config.cache_dir}
    given = {key: value for key, value in given.items() if taken is None or key in taken}
    # Where it forgets a seed of its own, its data are the same in every run all the same.
    with seeding.fixed("task", config.task.name):
        task: Task = _call(f"task={config.task.name}", maker, **given, **text)
    if config.task.suite.get("sha256") is not None:  # one in a file of the user's
        if not isinstance(task, Task):
            raise UserError(
                f"Invalid task: {config.task.name!r}. Its function made a {type(task).__name__}; "
                "must be a Task, as experiments.tasks.own.task makes."
            )
        task = replace(task, name=config.task.name)
    if config.judged_by is not None:
        task = replace(task, objective=task.objective.judging_by(config.judged_by))
    batching = config.task.batching
    task = few_samples.cut(task, train=batching.train_limit, validation=batching.validation_limit)
    task = few_samples.limited(task, config.debug)
    return task if config.evaluate_test else task.without_test()


def build_model(section: Section, task: Task) -> nn.Module:
    """Make the model, fitted to the inputs and classes of ``task``."""
    maker = _construct("model", section.arguments)
    model: nn.Module = _call(f"model={section.name}", maker, **task.model_arguments)
    return model


def load_pretrained(config: RunConfig, model: nn.Module) -> transfer.Loaded | None:
    """Load the weights that the config's ``pretrained`` names, if any."""
    if config.pretrained.source is None:
        return None
    return transfer.load(
        model,
        config.pretrained.source,
        name=config.model.name,
        weights=config.model.suite.get("weights"),
        data_dir=config.data_dir,
        minimum_percent=config.pretrained.minimum_percent,
    )


def build_optimizer(section: MethodSection, model: nn.Module) -> Optimizer:
    """Make the optimizer; a method that needs the model gets it in place of the parameters."""
    subject: Any = model
    own = section.arguments
    if parallel.is_split(model.parameters()):
        own = {**own, **section.split_arguments}
    if not section.needs.model:
        subject = decay.groups(own, model)
        own = {key: value for key, value in own.items() if key != decay.KEY}
    maker = _construct("optimizer", own)
    optimizer: Optimizer = _call(f"optimizer={section.name}", maker, subject)
    if "lr" not in optimizer.param_groups[0]:
        raise UserError(
            f"Invalid optimizer: {section.name!r}. Its parameter groups have no lr, which every "
            "schedule sets."
        )
    set_training(optimizer, True)
    if not section.needs.model:  # torch's own, or a library's
        optimizer.register_step_pre_hook(forms.start_momentum)
    return optimizer


def check_likelihood(
    section: MethodSection, optimizer: Optimizer, likelihood: Likelihood | None
) -> None:
    """Refuse a method that samples labels for a loss of which it cannot.

    Args:
        section: The method's.
        optimizer: The method; where it has ``check_likelihood``, that decides.
        likelihood: What the loss is the negative log of; None: of nothing.

    Raises:
        UserError: If it cannot.
    """
    if not section.needs.logits:
        return
    check = getattr(optimizer, "check_likelihood", None)
    if check is not None:
        _call(f"optimizer={section.name}", check, likelihood)
    elif likelihood != LOGITS:
        raise UserError(
            f"Invalid optimizer: {section.name!r}. It looks at logits, of which the loss of this "
            "task is none."
        )


def build_control(
    section: MethodSection, model: nn.Module, scales: Tensor, limits: budget.Limits
) -> Optimizer:
    """Make the scalar control of a method: its momentum and decay, at the measured step sizes."""
    if len(scales) != limits.steps:
        raise UserError(
            f"control=scalar: {len(scales)} step sizes are kept for {limits.steps} steps. Must be "
            "as many: remove the run's folder to measure them again."
        )
    return ScalarControl(
        decay.groups(section.arguments, model),
        targets.number(section.arguments, "lr"),
        scales=scales,
        weight_decay=targets.number(section.arguments, "weight_decay"),
        **(section.control or {}),
    )


def _with_stream(section: MethodSection, seed: int) -> MethodSection:
    """Give the method a stream of the run's seed, if it draws random numbers.

    A stream of its own: it draws nothing from that of the dropout, so that methods of one seed see
    the same masks; and it differs between seeds, whose spread then includes it.
    """
    if "seed" not in section.arguments:
        return section
    stream = seeding.derive(seed, "optimizer", section.arguments["seed"])
    if section.arguments["_target_"].partition(".")[0] not in ("adafisher", "experiments"):
        stream %= 2**32  # numpy's generators take no larger one, and a library may have those
    return section.having(seed=stream)


def _with_steps(section: MethodSection, limits: budget.Limits) -> MethodSection:
    """Tell the method how many steps there are, if it asks for them."""
    if section.steps_key is None:
        return section
    if limits.steps is None:  # trying out the config has refused such a budget
        raise UserError(f"optimizer={section.name}: its budget must say how many steps there are.")
    return section.having(**{section.steps_key: limits.steps})


def _construct(kind: str, arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """Make the ``functools.partial`` that a section of the config describes."""
    try:
        made: Callable[..., Any] = instantiate(arguments, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{kind}: {one_line(error)}") from error
    return made


def _call(chosen: str, maker: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call ``maker``, and turn its refusal of a value into the user's one line.

    Classes of users and libraries refuse by whatever they raise, an ``assert`` too. What has a line
    already, or says that memory is used up or another process gone, is judged elsewhere.
    """
    try:
        return maker(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(f"{chosen}: {one_line(error)}") from error
    except Exception as error:
        if refusal(error) or failures.is_out_of_memory(error) or is_lost(error):
            raise
        at = traceback.extract_tb(error.__traceback__)[-1]
        said = (one_line(error) if str(error) else str(at.line)).rstrip(".")
        place = f"line {at.lineno} of {Path(at.filename).name}"
        raise UserError(f"{chosen}: {type(error).__name__}: {said} ({place})") from error
