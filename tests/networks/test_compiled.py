"""What a compiled network keeps for its backward pass."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import minimand as mm


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


# torch's own, when inductor is imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")


@pytest.fixture
def saved_dtypes(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The types of what the forward graph hands to the backward one, as inductor splits them; nothing is generated."""
    from functorch.compile import min_cut_rematerialization_partition
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch._aot_autograd.utils import make_boxed_func
    from torch._inductor import compile_fx
    from torch._inductor.decomposition import select_decomp_table

    types: list[torch.dtype] = []

    def forward(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
        (outputs,) = graph.graph.find_nodes(op="output")[0].args
        types.extend(node.meta["val"].dtype for node in outputs if node is not None and "val" in node.meta)
        return make_boxed_func(graph.forward)

    split = aot_autograd(
        fw_compiler=forward,
        bw_compiler=lambda graph, inputs: make_boxed_func(graph.forward),
        partition_fn=min_cut_rematerialization_partition,
        decompositions=select_decomp_table(),
    )
    monkeypatch.setattr(compile_fx, "compile_fx", split)
    torch.compiler.reset()
    return types


def test_no_mask_is_kept(saved_dtypes: list[torch.dtype]) -> None:
    torch.manual_seed(0)
    model = mm.rewire(nn.Sequential(*[_Block() for _ in range(6)]), "heavy_ball(momentum=0.5)").double()
    x = torch.randn(2, 4, 8, 8, dtype=torch.double)
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model(x).square().sum(), parameters)
    gradients = torch.autograd.grad(mm.compiled(model, fullgraph=True)(x).square().sum(), parameters)
    torch.testing.assert_close(gradients, expected)
    assert saved_dtypes
    assert torch.bool not in saved_dtypes
    torch.compiler.reset()
