"""Running averages of all factors, and the curvature terms that they give every parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from adafisher import checkpoint
from adafisher.arguments import FactorOptions
from adafisher.capture.capture import Capture
from adafisher.coverage import warn_dropped, warn_partial, warn_unseen
from adafisher.execution.batched import Flat, all_finite, lay_out, min_max_all
from adafisher.execution.distributed import Synchronizer
from adafisher.execution.scaling import Scale, divide
from adafisher.execution.sharding import shard_terms
from adafisher.fisher import CurvatureTerm, join_terms
from adafisher.layers.layer import Layer
from adafisher.layers.rule import Factors

_NO_TERMS: list[CurvatureTerm] = []  # always the same, so that whoever has it sees no change


class Curvature:
    """The factors of a model: collected by hooks, averaged at each refresh, normalised for use.

    Attributes:
        options: How the averages are kept.
        synchronizer: Pools the rows of all ranks.
        capture: The hooks and the layers with their averages.
        step_count: Optimizer steps so far; decides when to refresh.
        identity_steps: Steps that a parameter of a supported layer took without an estimate.
    """

    def __init__(self, model: nn.Module, options: FactorOptions, process_group: Any = None) -> None:
        """Register hooks on the supported layers of ``model``.

        Args:
            model: Model to watch.
            options: How the averages are kept.
            process_group: Ranks whose rows are pooled, see ``distributed.Synchronizer``.
        """
        self.options = options
        self.synchronizer = Synchronizer(process_group)
        self.capture = Capture(model, options.norm_layers, options.embeddings)
        self.step_count = 0
        self.identity_steps: dict[str, int] = {}
        self._warned: set[str] = set()
        self._flats: list[Flat] = []
        self._terms: dict[Tensor, list[CurvatureTerm]] = {}
        self._copied: Iterable[Tensor] = []  # whose terms do not follow the averages
        self._is_loaded = False

    @property
    def owners(self) -> dict[Tensor, list[tuple[Layer, str]]]:
        """Layers and roles of every parameter in a supported layer, matched by identity."""
        return self.capture.owners

    def terms(self, param: Tensor) -> list[CurvatureTerm]:
        """Give the curvature of a parameter as of the last refresh; empty without an estimate."""
        return self._terms.get(param, _NO_TERMS)

    def count_identity(self, name: str, param: Tensor) -> None:
        """Count a step of a parameter without curvature, if it could have some."""
        if param in self.owners:
            self.identity_steps[name] = self.identity_steps.get(name, 0) + 1

    def tensors(self, layer: Layer) -> list[Tensor | None]:
        """List what is kept for a layer: averages, waiting rows, the normalised averages."""
        kept = [layer.activation_diag, layer.grad_diag]
        kept += [layer.pool.activation_sum, layer.pool.grad_sum]
        for flat in self._flats:
            if layer in flat.layers:
                kept += flat.factors[flat.layers.index(layer)]
        return kept

    def has_rows(self) -> bool:
        """Tell whether rows are pooled, be it by other ranks: theirs come into this one's pools."""
        if self.capture.armed and self.synchronizer.has_others():
            return True
        return any(layer.pool.rows for layer in self.capture.layers.values())

    def start_refresh(self) -> bool:
        """Send off what the other ranks need, if there are any, for whose part ``refresh`` waits.

        Returns:
            Whether there are any.
        """
        if not self.capture.armed:
            return False
        for layer in self.capture.layers.values():
            layer.pool.settle()
        return self.synchronizer.start(list(self.capture.layers.values()))

    def refresh(self, loss_scale: Scale = 1.0) -> None:
        """Take the pooled rows into the averages, if this is a step for it.

        Args:
            loss_scale: What the loss of these rows was multiplied by.
        """
        if self._is_loaded:  # lazy layers may have got their shapes since
            self._is_loaded = False
            self._rebuild()
        if not self.capture.armed:
            return
        ranks = self.synchronizer.finish()
        fresh = [layer for layer in self.capture.layers.values() if layer.pool.rows]
        uncalled = self.capture.uncalled()  # only now: another rank's rows are here too
        dropped = self._average(fresh, loss_scale, ranks)
        self.capture.clear()
        if dropped is None:
            self._normalise()
        else:
            self._rebuild()
            self._warn_once(warn_dropped, [layer.name for layer in dropped])
        self._warn_once(warn_unseen, [layer.name for layer in uncalled if self._is_plain(layer)])
        self._warn_once(
            warn_partial, [self.owners[p][0][0].name for p in self.capture.first.partial or ()]
        )

    def advance(self) -> None:
        """Count a step, and ask for the next one's rows if it refreshes."""
        self.step_count += 1
        self._arm()

    def state(self) -> dict[str, Any]:
        """Give everything that a restored run needs; holds the live tensors."""
        layers = self.capture.layers.items()
        return {
            "step": self.step_count,
            "options": asdict(self.options),
            "layers": {name: checkpoint.pack_layer(layer) for name, layer in layers},
            "identity_steps": self.identity_steps,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a state that fits; its tensors are not copied."""
        self.options = replace(self.options, **state["options"])
        self.step_count = state["step"]
        self.identity_steps = state.get("identity_steps", {})
        for name, layer in self.capture.layers.items():
            checkpoint.unpack_layer(layer, state["layers"][name])
        self._is_loaded = True
        self._rebuild()
        self._arm()

    def _average(self, fresh: list[Layer], loss_scale: Scale, ranks: int) -> list[Layer] | None:
        """Take the rows of layers into their averages.

        Returns:
            None where these lie as before; otherwise the layers whose rows are not finite.
        """
        sums: list[Tensor] = []
        divisors: list[float] = []
        for layer in fresh:
            h, s, rows = layer.sums()
            size = layer.rule.patch_size(layer.module) if self.options.patch_mean else 1
            sums += (h, s)
            # Each rank's output gradients are ``ranks`` times those of the mean loss.
            divisors += (rows * size, rows * ranks**2)
        gammas, flats = self.options.gammas, [flat for flat in self._flats if flat.holds(fresh)]
        if flats and flats[0].average(sums, divisors, loss_scale, gammas):
            return None
        flat = [x / divisor for x, divisor in zip(sums, divisors, strict=True)]
        estimates = list(zip(flat[::2], (divide(s, loss_scale) for s in flat[1::2]), strict=True))
        finites = all_finite(estimates)
        if self.options.normalize == "before":
            estimates = self._min_max(estimates)
        start = float(self.options.factor_init == "ones")
        dropped: list[Layer] = []
        for layer, estimate, finite in zip(fresh, estimates, finites, strict=True):
            if finite:
                layer.average(estimate, gammas, start)
            else:
                layer.dropped += 1
                dropped.append(layer)
        return dropped

    def _warn_once(self, warn: Callable[[list[str]], None], names: list[str]) -> None:
        if names and warn.__name__ not in self._warned:
            self._warned.add(warn.__name__)
            warn(names)

    def _is_plain(self, layer: Layer) -> bool:
        """Tell whether a parameter of the layer is stepped without curvature."""
        tracked = self.capture.tracked
        return any(
            param.grad is not None and param in tracked and not self.terms(param)
            for _, param in layer.roles()
        )

    def _arm(self) -> None:
        self.capture.armed = self.step_count % self.options.update_interval == 0

    def _min_max(self, factors: list[Factors]) -> list[Factors]:
        flat = min_max_all(
            [x for pair in factors for x in pair],
            self.options.minmax_eps,
            self.options.constant_factor,
        )
        return list(zip(flat[::2], flat[1::2], strict=True))

    def _rebuild(self) -> None:
        """Lay the averages out, if they are not yet, and form the terms."""
        usable = [
            layer
            for layer in self.capture.layers.values()
            if layer.averages() and not any(is_lazy(param) for _, param in layer.roles())
        ]
        if self.options.normalize == "before":
            self._terms = {}
            self._form_terms(self.owners, {layer: layer.averages() for layer in usable})
            return
        is_laid_out = all(flat.holds(flat.layers) for flat in self._flats)
        if not is_laid_out or {x for flat in self._flats for x in flat.layers} != set(usable):
            self._flats, self._terms, self._copied = lay_out(usable), {}, self.owners
        self._normalise()

    def _normalise(self) -> None:
        """Normalise the averages, and form the terms that do not follow them by themselves."""
        for flat in self._flats:
            flat.normalise(self.options.minmax_eps, self.options.constant_factor)
        if not self._copied:
            return
        factors: dict[Layer, Factors | None] = {}
        for flat in self._flats:
            factors |= zip(flat.layers, flat.factors, strict=True)
        self._form_terms(self._copied, factors)
        self._copied = [param for param in self._copied if not self._follow(self.terms(param))]

    def _follow(self, terms: Iterable[CurvatureTerm]) -> bool:
        """Tell whether terms stay right when the averages are normalised again."""
        return all(any(flat.owns(x) for flat in self._flats) for pair in terms for x in pair)

    def _form_terms(
        self, params: Iterable[Tensor], factors: Mapping[Layer, Factors | None]
    ) -> None:
        for param in params:
            terms = [
                layer.rule.term(layer.module, role, *pair)
                for layer, role in self.owners[param]
                if (pair := factors.get(layer)) is not None
            ]
            self._terms[param] = shard_terms(join_terms(terms), param)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is formed of the averages."""
        return vars(self) | {"_flats": [], "_copied": [], "_terms": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Form it again."""
        vars(self).update(state)
        self._rebuild()
