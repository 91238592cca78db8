"""The native library: its numbers beside float64, and what happens where it cannot be had."""

import os
import pickle
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adafisher import AdaFisher, AdaFisherW, native
from adafisher.execution import native_step
from adafisher.execution.step import Hyperparameters, Update
from adafisher.execution.stepper import Stepper
from adafisher.squares import square_sum
from tests.support.cases import BY_ID, CASES, Case, loss_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*in no supported layer:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*no rows came with the gradients of 'read':UserWarning"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
]
built = pytest.mark.skipif(native.library() is None, reason="there is no C compiler here")

LAYERS = [
    Case("linear", lambda: nn.Linear(130, 140), (4, 130)),
    Case("conv", lambda: nn.Conv2d(8, 6, 3, padding=1), (2, 8, 5, 4)),
    Case("conv_grouped", lambda: nn.Conv2d(96, 96, 3, groups=2), (2, 96, 4, 4)),
    Case("conv_depthwise", lambda: nn.Conv2d(12, 12, 3, groups=12), (2, 12, 4, 4)),
    Case("norm", lambda: nn.Sequential(nn.Linear(6, 7), nn.LayerNorm(7)), (4, 6)),
    Case("norm_of_two_axes", lambda: nn.LayerNorm((5, 6)), (4, 5, 6)),
    Case("embedding", lambda: nn.Embedding(9, 5), (4, 3), tokens=9, embeddings=True),
]
RULES: dict[str, dict[str, Any]] = {
    "coupled": {"weight_decay": 0.3},
    "decoupled": {"weight_decay": 0.3, "decoupled": True},
    "maximize": {"maximize": True, "weight_decay": 0.1, "damping": 0.1},
}


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many steps each call of the library took."""
    counts: list[int] = []
    loaded = native.library()
    assert loaded is not None

    class Counting:
        column_squares = loaded.column_squares

        @staticmethod
        def step_all(steps: Any, count: int, threads: int) -> None:
            counts.append(count)
            loaded.step_all(steps, count, threads)

    monkeypatch.setattr(native_step, "library", lambda: Counting)
    return counts


def assert_steps_agree(case: Case, *, decoupled: bool = False, **options: Any) -> None:
    """Take each step in the plain form too, from the same place, and compare what it made."""
    make = AdaFisherW if decoupled else AdaFisher
    plain_model, model = (case.model().float() for _ in range(2))
    plain = make(plain_model, fused=False, embeddings=case.embeddings, **options)
    optimizer = make(model, embeddings=case.embeddings, **options)
    for index in range(4):
        batch = case.batch(index)
        batch = batch if case.tokens else batch.float()
        for each, stepper in ((plain_model, plain), (model, optimizer)):
            loss_of(each(batch), index).backward()
            stepper.step()
            stepper.zero_grad()
        for a, b in zip(plain_model.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(b, a, rtol=2e-6, atol=1e-7)
            if a in plain.state:
                expected = plain.state[a]["exp_avg"]
                torch.testing.assert_close(
                    optimizer.state[b]["exp_avg"], expected, rtol=1e-5, atol=1e-7
                )
                optimizer.state[b]["exp_avg"].copy_(expected)
        for a, b in zip(plain_model.parameters(), model.parameters(), strict=True):
            b.data.copy_(a)


@built
@pytest.mark.parametrize("case", CASES + LAYERS, ids=lambda case: case.id)
def test_steps_are_those_of_the_plain_form(case: Case, stepped: list[int]) -> None:
    assert_steps_agree(case)


@built
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.id)
def test_steps_are_those_of_the_plain_form_under_every_rule(
    case: Case, rule: str, stepped: list[int]
) -> None:
    assert_steps_agree(case, **RULES[rule])
    assert len(stepped) == 4


@built
@pytest.mark.parametrize(
    ("case_id", "steps"),
    [("linear", 2), ("conv", 2), ("conv_grouped", 4), ("conv_depthwise", 2), ("norm", 4)],
)
def test_it_takes_all_parameters_at_once(case_id: str, steps: int, stepped: list[int]) -> None:
    case = next(case for case in LAYERS if case.id == case_id)
    assert_steps_agree(case)
    assert stepped == [steps] * 4


@built
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 3), (7, 1025), (64, 1024), (65, 40), (700, 130), (3000, 1100), (3, 70000)]
)
def test_column_squares_are_those_of_float64(shape: tuple[int, int], threads: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        sums = native.column_squares(x, shape[1:])
        counted = native.column_squares(x, (1, shape[1] + 1), counted=True)
    finally:
        torch.set_num_threads(before)
    expected = x.double().square().sum(0)
    torch.testing.assert_close(sums.double(), expected, rtol=1e-6, atol=0.0)
    assert torch.equal(counted[0, :-1], sums)
    assert counted[0, -1] == shape[0]


@built
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    x = torch.ones(100, 50)
    x[70, 20] = bad
    finite = torch.isfinite(native.column_squares(x, x.shape[1:]))
    assert finite.sum() == 49
    assert not finite[20]


@built
def test_what_it_does_not_serve_takes_another_way() -> None:
    class Own(Tensor):
        pass

    own = torch.randn(6, 4).as_subclass(Own)
    for x in (own, torch.randn(6, 4).double(), torch.randn(6, 4).bfloat16()):
        assert not native.serves(x)
        sums = square_sum(x, [0])
        torch.testing.assert_close(
            sums.as_subclass(Tensor).double(), x.as_subclass(Tensor).double().square().sum(0)
        )


def numbers(**changes: Any) -> Hyperparameters:
    plain = {"beta": 0.9, "coupled_decay": 0.0, "shrink": 0.0, "damping": 0.1, "maximize": False}
    return Hyperparameters(**{**plain, **changes})


@built
def test_tensors_that_are_exchanged_are_found_out(stepped: list[int]) -> None:
    """Whatever a user puts in place of what was there at the last step is what is stepped."""
    param = nn.Parameter(torch.zeros(4, 3))
    term = (torch.rand(4, 1), torch.rand(1, 3))
    terms, hyper, stepper = [term], numbers(), Stepper()

    def expect(exp_avg: Tensor, grad: Tensor, terms: Any, hyper: Hyperparameters) -> None:
        momentum = torch.lerp(exp_avg, grad, 1.0 - hyper.beta)
        ((left, right),) = terms
        target = param.detach() - 0.5 * momentum / (left * right + hyper.damping)
        with torch.no_grad():
            stepper.run([Update(param, grad, exp_avg, terms, 0.5, hyper)])
        torch.testing.assert_close(param.detach(), target)
        torch.testing.assert_close(exp_avg, momentum)

    exp_avg = torch.rand(4, 3)
    expect(exp_avg, torch.rand(4, 3), terms, hyper)
    expect(exp_avg, torch.rand(4, 3), terms, hyper)
    expect(exp_avg, torch.rand(4, 3), terms, numbers(damping=0.7, beta=0.2))
    expect(torch.rand(4, 3), torch.rand(4, 3), terms, hyper)
    expect(exp_avg, torch.rand(4, 3), [(torch.rand(4, 1), torch.rand(1, 3))], hyper)
    term[0].fill_(0.25)  # as a refresh does
    expect(exp_avg, torch.rand(4, 3), terms, hyper)
    param.data = torch.rand(4, 3)
    expect(exp_avg, torch.rand(4, 3), terms, hyper)
    exp_avg.data = torch.rand(4, 3)
    expect(exp_avg, torch.rand(4, 3), terms, hyper)
    assert stepped == [1] * 8
    param.data, exp_avg.data = torch.rand(3, 4).T, torch.rand(3, 4).T
    expect(exp_avg, torch.rand(4, 3), terms, hyper)
    param.data, exp_avg.data = torch.rand(4, 3), torch.rand(4, 3)
    expect(exp_avg, torch.rand(3, 4).T, terms, hyper)
    assert stepped == [1] * 8  # neither lies as the library has it


@built
def test_a_step_between_a_forward_pass_and_its_backward_is_found_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = AdaFisher(model)
    assert optimizer.form == "native"
    loss = model(torch.ones(5, 3)).square().mean()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@built
@pytest.mark.parametrize("shape", [(1, 41, 301), (20001,), (3, 7001)], ids=str)
def test_large_parameters_without_curvature_are_cut_for_the_threads(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_step, "threads", lambda elements: 3)
    param, grad, exp_avg = nn.Parameter(torch.rand(shape)), torch.rand(shape), torch.rand(shape)
    momentum = torch.lerp(exp_avg, grad, 0.1)
    target = param.detach() - 0.5 * momentum
    with torch.no_grad():
        Stepper().run([Update(param, grad, exp_avg, [], 0.5, numbers())])
    torch.testing.assert_close(param.detach(), target)
    torch.testing.assert_close(exp_avg, momentum)


@built
def test_a_copy_steps_its_own_parameters(stepped: list[int]) -> None:
    case = BY_ID["mlp_inplace_relu"]
    model = case.model().float()
    optimizer = AdaFisher(model)

    def train(model: nn.Module, optimizer: AdaFisher, index: int) -> None:
        loss_of(model(case.batch(index).float()), index).backward()
        optimizer.step()
        optimizer.zero_grad()

    train(model, optimizer, 0)
    model_too, optimizer_too = pickle.loads(pickle.dumps((model, optimizer)))
    before = [p.clone() for p in model.parameters()]
    train(model_too, optimizer_too, 1)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    train(model, optimizer, 1)
    assert all(
        torch.equal(a, b) for a, b in zip(model_too.parameters(), model.parameters(), strict=True)
    )


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a library; ``native.library.__wrapped__`` loads as a new process does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ADAFISHER_NATIVE", raising=False)
    monkeypatch.delenv("CC", raising=False)
    return tmp_path / "cache" / "adafisher"


def load() -> Any:
    return native.library.__wrapped__()


@built
def test_it_is_built_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load() is not None
    (file,) = fresh.iterdir()
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    monkeypatch.setenv("CC", "false")
    assert load() is not None
    assert list(fresh.iterdir()) == [file]


@built
def test_a_damaged_library_is_built_again(fresh: Path) -> None:
    assert load() is not None
    (file,) = fresh.iterdir()
    file.unlink()  # not changed in place: it is loaded here
    file.write_bytes(b"damaged")
    code = "from adafisher import native; assert native.library()"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert file.stat().st_size > 1000


@built
def test_a_folder_of_others_is_not_trusted(fresh: Path) -> None:
    fresh.mkdir(parents=True)
    fresh.chmod(0o777)
    assert load() is not None
    assert list(fresh.iterdir()) == []


@built
def test_no_folder_is_no_hindrance(fresh: Path) -> None:
    fresh.parent.write_text("a file where the folder would be")
    assert load() is not None


@built
def test_a_folder_that_is_not_absolute_is_not_made(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert load() is not None
    assert list(tmp_path.iterdir()) == []


# What stands in for a system that cannot choose between copies, and for an older compiler.
OTHER_COMPILERS = {
    "one width": '#!/bin/sh\ncase "$*" in *-DEACH_WIDTH=*) exec cc "$@";; esac\nexit 1\n',
    "before gcc 12": '#!/bin/sh\nexec cc -U__GNUC__ -D__GNUC__=11 "$@"\n',
}


@built
@pytest.mark.parametrize("script", OTHER_COMPILERS.values(), ids=OTHER_COMPILERS.keys())
def test_other_compilers_build_it_too(
    script: str, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(script)
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    loaded = load()
    monkeypatch.setattr(native, "library", lambda: loaded)
    x = torch.rand(70, 130)
    found = native.column_squares(x, (130,))
    torch.testing.assert_close(found, x.double().square().sum(0).float())


@built
def test_a_second_pool_of_threads_in_the_process_changes_nothing() -> None:
    """scikit-learn brings an OpenMP of its own along, which torch does not use."""
    pytest.importorskip("sklearn")
    code = (
        "from adafisher import native\n"
        "import ctypes, torch\n"
        "has_threads = hasattr(native.library(), 'omp_get_max_threads')\n"
        "before = native._has_one_pool()\n"
        "assert before or not has_threads or not torch.backends.openmp.is_available(), before\n"
        "native._has_one_pool.cache_clear()\n"
        "import sklearn.utils._openmp_helpers\n"
        "print(before == native._has_one_pool())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize("compiler", ["", "/nowhere/cc", "false", "true"])
def test_without_a_compiler_there_is_none(
    compiler: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiler:
        monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", compiler)
    assert load() is None


def test_who_does_not_want_it_has_none(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAFISHER_NATIVE", "0")
    assert load() is None
    assert not fresh.exists()


@pytest.mark.parametrize("variables", [{"ADAFISHER_NATIVE": "0"}, {"CC": "/nowhere/cc"}])
def test_training_needs_none(variables: dict[str, str], fresh: Path) -> None:
    code = (
        "import torch, adafisher\n"
        "model = torch.nn.Linear(3, 2)\n"
        "optimizer = adafisher.AdaFisher(model)\n"
        "model(torch.ones(4, 3)).square().mean().backward()\n"
        "optimizer.step()\n"
        "print(adafisher.native.library())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("None\n", "", 0)


@built
def test_threads_that_build_at_once_all_have_it(fresh: Path) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(load())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert None not in found
    assert len(list(fresh.iterdir())) == 1
