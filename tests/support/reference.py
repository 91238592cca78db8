"""Slow, dense AdaFisher in float64, written from the equations and from no code of the suite.

Every layer call is stored as explicit rows: inputs ``h_r`` (patches cut out one by one, augmented
by a 1) and output gradients ``s_r``. The factors are full second-moment matrices whose diagonal is
taken, and the Fisher is the diagonal of a full Kronecker product.

    H = (1/R) sum_r h_r h_r^T,  S = (1/R) sum_r s_r s_r^T
    H_avg <- gamma_1 H_avg + (1 - gamma_2) diag H,  likewise S_avg
    F = diag(diag(S') kron diag(H')) + lambda,  ' = Min-Max
    m_t = beta m_{t-1} + (1 - beta) g_t,  theta <- theta - lr m_t / (1 - beta^t) / F

Reference: Martins Gomes et al. 2025, arXiv 2405.16397v3, equations (3)-(4), Proposition 3.1.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = {torch.float64: 2.0**-52, torch.float32: 2.0**-23}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
CHANNEL_NORMS = (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm)
TRAILING_NORMS = (nn.LayerNorm, nn.RMSNorm)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def min_max(x: Tensor, eps: float = 0.0, constant_factor: str = "ones") -> Tensor:
    """Entry by entry; a constant vector becomes ones, or zeros as the formula with eps has it."""
    values = x.flatten().tolist()
    low, high = min(values), max(values)
    if high - low <= 16 * EPSILON[x.dtype] * high and not (eps and constant_factor == "zeros"):
        return {"ones": torch.ones_like, "zeros": torch.zeros_like}[constant_factor](x)
    scaled = [(value - low) / (high - low + eps) for value in values]
    return torch.tensor(scaled, dtype=x.dtype).reshape(x.shape)


def second_moment_diag(rows: Tensor) -> Tensor:
    """Diagonal of the full matrix ``(1/R) sum_r row_r row_r^T``; rows ``[R, d]``."""
    matrix = torch.zeros(rows.shape[1], rows.shape[1], dtype=rows.dtype)
    for row in rows:
        matrix += torch.outer(row, row)
    return torch.diagonal(matrix / rows.shape[0]).clone()


def kronecker_diagonal(s: Tensor, h: Tensor) -> Tensor:
    """Diagonal of the full ``diag(s) kron diag(h)``, as ``[len(s), len(h)]``."""
    full = torch.kron(torch.diag(s), torch.diag(h))
    return torch.diagonal(full).reshape(len(s), len(h))


def padded_index(i: int, size: int, mode: str) -> int | None:
    """Where position ``i`` of the padded axis (0 is the first real entry) reads from."""
    if 0 <= i < size:
        return i
    if mode == "zeros":
        return None
    if mode == "replicate":
        return min(max(i, 0), size - 1)
    if mode == "circular":
        return i % size
    return -i if i < 0 else 2 * (size - 1) - i


def batched(layer: Any, x: Tensor) -> Tensor:
    """With the batch axis that convolutions and instance norm may leave out."""
    axes = {"1d": 1, "2d": 2, "3d": 3}[type(layer).__name__[-2:]]
    return x if x.dim() == axes + 2 else x[None]


def conv_patches(layer: Any, x: Tensor) -> Tensor:
    """Patches ``[rows, groups, d_in]`` of ``x``, cut out entry by entry."""
    x = batched(layer, x)
    channels, sizes = x.shape[1], x.shape[2:]
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    before: list[int] = []
    total: list[int] = []
    for axis, (k, d) in enumerate(zip(kernel, dilation, strict=True)):
        if layer.padding == "valid":
            before.append(0)
            total.append(0)
        elif layer.padding == "same":
            before.append(d * (k - 1) // 2)
            total.append(d * (k - 1))
        else:
            before.append(int(layer.padding[axis]))
            total.append(2 * int(layer.padding[axis]))
    outputs = [
        range((n + t - d * (k - 1) - 1) // s + 1)
        for n, t, d, k, s in zip(sizes, total, dilation, kernel, stride, strict=True)
    ]
    rows = []
    for image, *position in itertools.product(x, *outputs):
        patch = torch.zeros(channels, *kernel, dtype=x.dtype)
        for offset in itertools.product(*map(range, kernel)):
            source = [
                padded_index(i * s + u * d - p, n, layer.padding_mode)
                for i, s, u, d, p, n in zip(
                    position, stride, offset, dilation, before, sizes, strict=True
                )
            ]
            if None not in source:
                patch[(slice(None), *offset)] = image[(slice(None), *source)]
        rows.append(patch.reshape(layer.groups, -1))
    return torch.stack(rows)


def transposed_patches(layer: Any, x: Tensor, output_size: list[int]) -> Tensor:
    """Patches of the zero-stuffed input, ``[rows, groups, d_in]``, the kernel in weight order.

    A transposed convolution is the convolution of the stuffed input by the flipped kernel:
    ``y[o] = sum_k w[k] stuffed[o + padding - dilation * k]``.
    """
    x = batched(layer, x)
    channels, sizes, kernel = x.shape[1], x.shape[2:], layer.kernel_size
    stuffed_sizes = [(n - 1) * s + 1 for n, s in zip(sizes, layer.stride, strict=True)]
    stuffed = torch.zeros(x.shape[0], channels, *stuffed_sizes, dtype=x.dtype)
    for position in itertools.product(*map(range, sizes)):
        place = [i * s for i, s in zip(position, layer.stride, strict=True)]
        stuffed[(slice(None), slice(None), *place)] = x[(slice(None), slice(None), *position)]
    rows = []
    for image, *position in itertools.product(stuffed, *map(range, output_size)):
        patch = torch.zeros(channels, *kernel, dtype=x.dtype)
        for offset in itertools.product(*map(range, kernel)):
            source = [
                o + p - d * k
                for o, p, d, k in zip(position, layer.padding, layer.dilation, offset, strict=True)
            ]
            if all(0 <= i < n for i, n in zip(source, stuffed_sizes, strict=True)):
                patch[(slice(None), *offset)] = image[(slice(None), *source)]
        rows.append(patch.reshape(layer.groups, -1))
    return torch.stack(rows)


class ExplicitAttention(nn.Module):
    """``nn.MultiheadAttention(batch_first=True)``, written out, with the same parameters."""

    def __init__(self, width: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width)) if bias else None
        self.out_proj = nn.Linear(width, width, bias=bias)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """``[batch, time, width]`` each."""
        self.seen = []
        for part, x in enumerate((query, key, value)):
            rows = slice(part * x.shape[-1], (part + 1) * x.shape[-1])
            output = x @ self.in_proj_weight[rows].T
            if self.in_proj_bias is not None:
                output = output + self.in_proj_bias[rows]
            self.seen.append((x, output))
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for _, y in self.seen)
        scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
        mixed: Tensor = self.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(-2))
        return mixed


@dataclass
class Record:
    """What one layer saw since the last step, and its running averages."""

    inputs: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    h: Tensor | None = None
    s: Tensor | None = None


def features_last(layer: nn.Module, x: Tensor) -> Tensor:
    """Rows ``[R, features]`` of a tensor at a layer's output, or at a norm layer's input."""
    if isinstance(layer, (*CONVS, *TRANSPOSED, *INSTANCE_NORMS)):
        x = batched(layer, x)
    if isinstance(layer, (*CONVS, *TRANSPOSED, *CHANNEL_NORMS)):
        return x.movedim(1, -1).reshape(-1, x.shape[1])
    if isinstance(layer, TRAILING_NORMS):
        return x.reshape(-1, layer.weight.numel())
    return x.reshape(-1, x.shape[-1])


def one_hot(layer: nn.Embedding, tokens: Tensor) -> Tensor:
    """Rows ``[R, num_embeddings]``; that of the padding token is zero."""
    rows = torch.zeros(tokens.numel(), layer.num_embeddings, dtype=torch.float64)
    for row, token in zip(rows, tokens.flatten().tolist(), strict=True):
        if token != layer.padding_idx:
            row[token] = 1.0
    return rows


def estimate(
    layer: Any, record: Record, norm_layers: str, patch_mean: bool = False
) -> tuple[Tensor, Tensor]:
    """``(H, S)`` of all rows of a record; ``H`` is ``[groups, d_in (+ 1)]`` or ``[features]``."""
    if isinstance(layer, (*CHANNEL_NORMS, *TRAILING_NORMS)):
        if norm_layers == "two_vector":
            return two_vector(layer, torch.cat(record.inputs), torch.cat(record.grads))
        h = torch.cat([features_last(layer, x) for x in record.inputs])
        s = torch.cat([features_last(layer, g) for g in record.grads])
        return second_moment_diag(h), second_moment_diag(s)
    if isinstance(layer, ExplicitAttention):
        hs, ss = [], []
        for part in range(3):
            x = torch.cat([features_last(layer, x) for x in record.inputs[part::3]])
            ss.append(
                second_moment_diag(
                    torch.cat([features_last(layer, g) for g in record.grads[part::3]])
                )
            )
            hs.append(second_moment_diag(torch.cat([x, torch.ones_like(x[:, :1])], -1)))
        return torch.stack(hs), torch.cat(ss)
    s = torch.cat([features_last(layer, g) for g in record.grads])
    if isinstance(layer, CONVS):
        patches = torch.cat([conv_patches(layer, x) for x in record.inputs])
    elif isinstance(layer, TRANSPOSED):
        axes = len(layer.kernel_size)
        patches = torch.cat(
            [
                transposed_patches(layer, x, list(g.shape[-axes:]))
                for x, g in zip(record.inputs, record.grads, strict=True)
            ]
        )
    elif isinstance(layer, nn.Embedding):
        patches = torch.cat([one_hot(layer, x) for x in record.inputs])[:, None]
    else:
        patches = torch.cat([features_last(layer, x) for x in record.inputs])[:, None]
    length = patches.shape[-1] if patch_mean and isinstance(layer, (*CONVS, *TRANSPOSED)) else 1
    if getattr(layer, "bias", None) is not None:
        patches = torch.cat([patches, torch.ones_like(patches[..., :1])], dim=-1)
    h = torch.stack([second_moment_diag(patches[:, g]) for g in range(patches.shape[1])])
    return h / length, second_moment_diag(s)


def two_vector(layer: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Released code: ``H = [sum_c a_c^2, C] / B^2``, ``S = (sum s)^2 / B``, sums before squares."""
    batch, channels = x.shape[:2]
    positions = x[0, 0].numel()
    energy = 0.0
    for c in range(channels):
        energy += (float(x[:, c].sum()) / positions**2) ** 2
    h = torch.tensor([energy / batch**2, channels / batch**2], dtype=x.dtype)
    s = features_last(layer, grad).sum(0) ** 2 / batch
    return h, s


class ReferenceAdaFisher:
    """Runs beside an optimizer under test, on a model of its own.

    Args:
        model: Model in float64, not shared with anyone.
        norm_layers: ``per_channel`` or ``two_vector``.
        decoupled: AdaFisherW's weight decay.
        options: lr, beta, damping, gammas, update_interval, weight_decay, normalize, factor_init,
            minmax_eps, patch_mean, constant_factor, maximize.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        norm_layers: str = "per_channel",
        decoupled: bool = False,
        **options: Any,
    ) -> None:
        self.model = model
        self.norm_layers = norm_layers
        self.decoupled = decoupled
        self.options: dict[str, Any] = {
            "lr": 1e-3,
            "beta": 0.9,
            "damping": 1e-3,
            "gammas": (0.92, 0.008),
            "update_interval": 1,
            "weight_decay": 0.0,
            "normalize": "after",
            "factor_init": "zeros",
            "minmax_eps": 0.0,
            "patch_mean": False,
            "constant_factor": "ones",
            "maximize": False,
            "embeddings": False,
        } | options
        self.group_of: dict[str, dict[str, Any]] = {}
        self.count = 0
        self.steps: dict[str, int] = {}
        self.momentum: dict[str, Tensor] = {}
        self.records: dict[str, Record] = {}
        kinds: tuple[type[nn.Module], ...] = (
            *(nn.Linear, *CONVS, *TRANSPOSED, *CHANNEL_NORMS, *TRAILING_NORMS, ExplicitAttention),
            *([nn.Embedding] if self.options["embeddings"] else []),
        )
        for name, module in model.named_modules():
            if isinstance(module, kinds):
                self.records[name] = Record()
                module.register_forward_hook(self._hook(name), with_kwargs=True)

    def _hook(self, name: str) -> Any:
        def hook(
            module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
        ) -> None:
            if not output.requires_grad:
                return
            if isinstance(module, ExplicitAttention):
                self._attend(name, module)
                return
            x = (*args, *kwargs.values())[0].detach().clone()

            def on_grad(grad: Tensor) -> None:
                if any(p.requires_grad for p in module.parameters()):
                    self.records[name].inputs.append(x)
                    self.records[name].grads.append(grad.detach().clone())

            output.register_hook(on_grad)

        return hook

    def _attend(self, name: str, module: ExplicitAttention) -> None:
        record = self.records[name]
        start = len(record.inputs)
        for part, (x, output) in enumerate(module.seen):
            record.inputs.append(x.detach().clone())
            record.grads.append(torch.zeros(()))

            def on_grad(grad: Tensor, place: int = start + part) -> None:
                record.grads[place] = grad.detach().clone()

            output.register_hook(on_grad)

    def _normalized(self, x: Tensor) -> Tensor:
        return min_max(x, self.options["minmax_eps"], self.options["constant_factor"])

    def _refresh(self) -> None:
        gamma_1, gamma_2 = self.options["gammas"]
        for name, record in self.records.items():
            if record.inputs and self.count % self.options["update_interval"] == 0:
                layer = self.model.get_submodule(name)
                new = estimate(layer, record, self.norm_layers, self.options["patch_mean"])
                if all(torch.isfinite(x).all() for x in new):
                    if self.options["normalize"] == "before":
                        new = (self._normalized(new[0]), self._normalized(new[1]))
                    if record.h is None:
                        start = {"zeros": 0.0, "ones": 1.0}[self.options["factor_init"]]
                        record.h = torch.full_like(new[0], start)
                        record.s = torch.full_like(new[1], start)
                    record.h = gamma_1 * record.h + (1 - gamma_2) * new[0]
                    record.s = gamma_1 * record.s + (1 - gamma_2) * new[1]
            record.inputs, record.grads = [], []

    def curvatures(self, param: Tensor) -> list[Tensor]:
        """``H' kron S'`` of every layer that ``param`` belongs to, without damping."""
        found = []
        for name, record in self.records.items():
            layer = self.model.get_submodule(name)
            if record.h is None or record.s is None:
                continue
            h, s = record.h, record.s
            if self.options["normalize"] == "after":
                h, s = self._normalized(h), self._normalized(s)
            prefix = "in_proj_" if isinstance(layer, ExplicitAttention) else ""
            for role in ("weight", "bias"):
                if getattr(layer, prefix + role, None) is param:
                    found.append(self._block(layer, role, h, s).reshape(param.shape))
        return found

    def _block(self, layer: Any, role: str, h: Tensor, s: Tensor) -> Tensor:
        if isinstance(layer, nn.Embedding):
            return kronecker_diagonal(h[0], s)
        if isinstance(layer, (nn.Linear, *CONVS, *TRANSPOSED, ExplicitAttention)):
            per_group = torch.chunk(s, h.shape[0])
            blocks = [kronecker_diagonal(s_g, h_g) for s_g, h_g in zip(per_group, h, strict=True)]
            has_bias = isinstance(layer, ExplicitAttention) or layer.bias is not None
            if role == "bias":
                return torch.cat(blocks)[:, -1]
            weights = [block[:, :-1] if has_bias else block for block in blocks]
            if isinstance(layer, TRANSPOSED):  # the weight has the inputs first
                weights = [
                    w.reshape(len(s_g), -1, *layer.kernel_size).transpose(0, 1)
                    for w, s_g in zip(weights, per_group, strict=True)
                ]
            return torch.cat(weights)
        if self.norm_layers == "two_vector":
            return s * (h[0] if role == "weight" else h[1])
        return s * h if role == "weight" else s

    @torch.no_grad()
    def step(self) -> None:
        """One step of every parameter with a gradient."""
        self._refresh()
        for name, param in self.model.named_parameters():
            if param.grad is None:
                continue
            o = self.options | self.group_of.get(name, {})
            decay = o["weight_decay"]
            grad = -param.grad if o["maximize"] else param.grad.clone()
            if not self.decoupled:
                grad = grad + decay * param
            t = self.steps[name] = self.steps.get(name, 0) + 1
            old = self.momentum.get(name, torch.zeros_like(param))
            self.momentum[name] = o["beta"] * old + (1 - o["beta"]) * grad
            corrected = self.momentum[name] / (1 - o["beta"] ** t)
            blocks = self.curvatures(param)
            fisher = torch.ones_like(param)
            if blocks:
                fisher = sum(blocks, torch.zeros_like(param)) / len(blocks) + o["damping"]
            direction = corrected / fisher
            if self.decoupled:
                direction = direction + decay * param
            param.copy_(param - o["lr"] * direction)
        self.count += 1
