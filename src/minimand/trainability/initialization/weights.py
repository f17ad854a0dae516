"""Parameters by name, read and written, also through parametrizations."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..._support.errors import MinimandError
from ..._support.torch.internals import make_picklable, own_parameters
from ...layers.residual_scale import ScalarBias


class Scaled(nn.Module):
    """A parametrization: a weight, or a bias, times one learned number."""

    def __init__(self, factor: nn.Parameter) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, value: Tensor) -> Tensor:
        return self.factor * value

    def right_inverse(self, value: Tensor) -> Tensor:
        """The parameter from which `forward` makes this value; the value itself where the factor is 0."""
        factor = self.factor.detach()
        return value / torch.where(factor == 0, torch.ones_like(factor), factor)


def read(model: nn.Module, name: str) -> Tensor:
    """The value of a parameter as its module sees it, without gradient."""
    owner, leaf = _owner(model, name)
    return cast(Tensor, getattr(owner, leaf)).detach()


def write(model: nn.Module, name: str, value: Tensor) -> None:
    """Make the module see this value, through the inverse of a parametrization if there is one that gives it back."""
    owner, leaf = _owner(model, name)
    with torch.no_grad():
        if not parametrize.is_parametrized(owner, leaf):
            cast(Tensor, own_parameters(owner)[leaf]).copy_(value)
            return
        kinds = ", ".join(type(module).__name__ for module in parametrized_by(owner, leaf))
        advice = f"Exclude it, exclude=({name!r},), or take the parametrization off while initializing."
        value = value.to(getattr(owner, leaf))
        try:
            setattr(owner, leaf, value)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise MinimandError(
                f"{name} is parametrized by {kinds}, which cannot take this value: {error} {advice}"
            ) from None
        off = float((getattr(owner, leaf) - value).abs().max()) if value.numel() else 0.0
        if not off <= torch.finfo(value.dtype).eps ** 0.5 * float(value.abs().max()):
            raise MinimandError(
                f"{name} is parametrized by {kinds}, which made another of the value set, off by {off:.3g}. {advice}"
            )


def parametrized_by(owner: nn.Module, leaf: str) -> list[nn.Module]:
    """The parametrizations of a parameter, none if it is a plain one."""
    is_plain = not parametrize.is_parametrized(owner, leaf)
    return [] if is_plain else list(cast(nn.ModuleDict, owner.parametrizations)[leaf].children())


def scale(model: nn.Module, name: str, factor: float) -> None:
    """Put one learned factor before a layer's weight and bias; one that is there already is set."""
    module = model.get_submodule(name)
    shared = next((p.factor for p in parametrized_by(module, "weight") if isinstance(p, Scaled)), None)
    if shared is None:
        like = cast(Tensor, module.weight)
        shared = nn.Parameter(torch.ones((), dtype=like.dtype, device=like.device))
        for leaf in ("weight", "bias"):
            if getattr(module, leaf, None) is not None:
                parametrize.register_parametrization(module, leaf, Scaled(shared))
        make_picklable(module)
    with torch.no_grad():
        shared.fill_(factor)


def bias_by_scalars(model: nn.Module, name: str, first: bool) -> None:
    """Put one learned number, set to 0, before a layer that is not `first`, and one after it if it has no bias."""
    module = model.get_submodule(name)
    like = cast(Tensor, module.weight)
    is_wanted = {"before": not first, "after": getattr(module, "bias", None) is None}
    for place in (place for place, wanted in is_wanted.items() if wanted):
        if hasattr(module, place):
            nn.init.zeros_(cast(ScalarBias, getattr(module, place)).bias)
            continue
        module.add_module(place, ScalarBias().to(like.device, like.dtype))
        if place == "before":
            module.register_forward_pre_hook(_shift_input)
        else:
            module.register_forward_hook(_shift_output)


def _shift_input(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (cast(nn.Module, module.before)(args[0]), *args[1:])


def _shift_output(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return cast(nn.Module, module.after)(output)


def why_not(model: nn.Module, name: str) -> str | None:
    """Why a parameter is to be left alone; None if it is not. One that is made anew at every call is an error."""
    owner, leaf = _owner(model, name)
    parts = [n for n, _ in owner.named_parameters(recurse=False) if n.startswith(f"{leaf}_")]
    if leaf not in own_parameters(owner) and not parametrize.is_parametrized(owner, leaf):
        raise MinimandError(
            f"{name} is made anew at each call from {', '.join(parts) or 'something else'}: what is written to it is "
            "lost. Use torch.nn.utils.parametrizations, which takes it, or exclude it."
        )
    if not read(model, name).is_floating_point():
        return f"its type is {read(model, name).dtype}"
    return None if all(parameter.requires_grad for parameter in sources(model, name)) else "frozen"


def sources(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameters that hold the value of a name: one, or those that a parametrization makes it of."""
    owner, leaf = _owner(model, name)
    if parametrize.is_parametrized(owner, leaf):
        return list(cast(nn.ModuleDict, owner.parametrizations)[leaf].parameters())
    return [cast(nn.Parameter, getattr(owner, leaf))]


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf
