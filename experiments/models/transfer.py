"""Pretrained weights: found, mapped to a model by name and shape, and counted.

A weight that does not fit is reported and never skipped in silence.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from experiments.errors import UserError

IMAGENET = "imagenet"
FOLDER = "weights"
"""Folder below the data folder that torchvision's files are kept in."""

_NAMES_SHOWN = 5
_WRAPPERS = ("module.", "_orig_mod.")
# torchvision's own files of DenseNet date from when a module's name could hold a dot.
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


@dataclass(frozen=True)
class Loaded:
    """What a model got from a file.

    Attributes:
        source: ``imagenet``, or the path of the file.
        file: Name of the file.
        sha256: Of the file.
        percent: Share of the model's parameter elements that were loaded.
        left: Parameters and buffers that keep their initial values.
        unused: Names in the file that no parameter or buffer took.
    """

    source: str
    file: str
    sha256: str
    percent: float
    left: tuple[str, ...]
    unused: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Say what the record of a run keeps."""
        return asdict(self)

    def __str__(self) -> str:
        text = f"pretrained: {self.percent:.2f} % of the parameters loaded from {self.file}"
        return f"{text}; left as initialised: {_some(self.left)}"


def locate(source: str, *, model: str, weights: str | None, data_dir: Path) -> Path:
    """Find the file of a source, and download torchvision's where it is not there yet.

    Args:
        source: ``imagenet`` or a path.
        model: Name of the model, for the message.
        weights: Torchvision's name for the model's weights; None where there are none.
        data_dir: The data folder.

    Raises:
        UserError: If there is no such file, or none for this model, or it cannot be downloaded.
    """
    if source != IMAGENET:
        path = Path(str(source)).expanduser()
        if not path.is_file():
            raise UserError(
                f"Invalid pretrained.source: {source!r}. No such file; "
                f"must be {IMAGENET}, or the path of a state_dict (.pt, .pth, .safetensors)."
            )
        return path
    if weights is None:
        raise UserError(
            f"Invalid pretrained.source: {IMAGENET}. torchvision has no weights of the definition "
            f"model={model}; give the path of a file."
        )
    from torchvision import models  # takes a second, and the compiler with it

    url = models.get_weight(weights).url
    path = data_dir / FOLDER / url.rpartition("/")[2]
    if not path.is_file():
        _download(url, path)
    return path


def load(
    model: nn.Module,
    source: str,
    *,
    name: str,
    weights: str | None,
    data_dir: Path,
    minimum_percent: float,
) -> Loaded:
    """Copy the weights of a source into a model, where name and shape are the same.

    Args:
        model: Changed in place.
        source: ``imagenet`` or a path.
        name: Name of the model, for messages.
        weights: Torchvision's name for the model's weights; None where there are none.
        data_dir: The data folder.
        minimum_percent: Share of the parameter elements below which the file is refused.

    Raises:
        UserError: If the file cannot be had or read, too little of it fits, or what does is not
            finite.
    """
    check_share(minimum_percent)
    path = locate(source, model=name, weights=weights, data_dir=data_dir)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if source == IMAGENET:
        _check_digest(path, digest)
    found = _state_dict(path)
    # state_dict() gives a tied parameter under each of its names: all of them have to fit.
    wanted = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    fits = {key for key, value in wanted.items() if _shape(found.get(key)) == value.shape}
    parameters = dict(model.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    filled = sum(parameter.numel() for key, parameter in parameters.items() if key in fits)
    loaded = Loaded(
        source=source,
        file=path.name,
        sha256=digest,
        percent=100.0 * filled / total,
        left=tuple(key for key in wanted if key not in fits),
        unused=tuple(key for key in found if key not in fits),
    )
    if loaded.percent < minimum_percent:
        raise UserError(
            f"pretrained.source={source}: {path.name} holds {loaded.percent:.1f} % of the "
            f"parameters of model={name}, and pretrained.minimum_percent is {minimum_percent:g}. "
            f"Not in it: {_some(loaded.left)}. Only in it: {_some(loaded.unused)}. A smaller "
            "pretrained.minimum_percent= starts all the same."
        )
    bad = tuple(key for key in wanted if key in fits and not bool(found[key].isfinite().all()))
    if bad:
        raise UserError(
            f"pretrained.source={source}: {path.name} has numbers that are not finite, in "
            f"{_some(tuple(bad))}. Its training diverged, or it is damaged."
        )
    with torch.no_grad():
        for key in fits:
            wanted[key].copy_(found[key])
    return loaded


def check_share(minimum_percent: float) -> None:
    """Refuse what is no percentage."""
    if isinstance(minimum_percent, bool) or not 0 <= minimum_percent <= 100:
        raise UserError(
            f"Invalid pretrained.minimum_percent: {minimum_percent}. Must be in [0, 100]."
        )


def _download(url: str, path: Path) -> None:
    prefix = path.stem.rpartition("-")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix)
    except (URLError, OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"Weights file {path} is missing, and {url} cannot be downloaded ({reason}). "
            f"Put the file there; its sha256 starts with {prefix}."
        ) from error


def _check_digest(path: Path, digest: str) -> None:
    """Torchvision's file names end with the first digits of the sha256."""
    prefix = path.stem.rpartition("-")[2]
    if not digest.startswith(prefix):
        raise UserError(
            f"Weights file {path} has sha256 {digest}, expected one that starts with {prefix} "
            "(truncated, or another file). Remove it to download it again."
        )


def _state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file as tensors by torchvision's present names.

    Raises:
        UserError: If it holds no state_dict.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # the unpickler raises what it meets: no closed list of types
        raise UserError(
            f"Weights file {path} cannot be read ({type(error).__name__}): it must be a state_dict "
            "saved by torch.save or as safetensors."
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {key: value for key, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise UserError(f"Weights file {path} holds no state_dict: no tensors by name.")
    return {_present_name(key): value for key, value in tensors.items()}


def _present_name(key: str) -> str:
    for wrapper in _WRAPPERS:
        key = key.removeprefix(wrapper)
    return _DOTTED.sub(r"\1\2", key)


def _shape(value: Tensor | None) -> torch.Size | None:
    return None if value is None else value.shape


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMES_SHOWN
    shown = ", ".join(names[:_NAMES_SHOWN]) or "nothing"
    return f"{shown} and {more} more" if more > 0 else shown
