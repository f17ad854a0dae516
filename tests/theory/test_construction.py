import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn

import minimand as mm
from helpers import ALGORITHMS, BINDINGS
from minimand.theory.kernel import Binding

# With leapfrog every other block does not reach the output.
_HEARD = sorted(name for name in ALGORITHMS if not name.startswith("leapfrog") and "learnable" not in name)


@settings(deadline=None, max_examples=8)
@given(
    name=st.sampled_from(_HEARD),
    binding=st.sampled_from(BINDINGS),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 3)),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU, nn.Sigmoid]),
    biases=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_shallow_network_is_a_deep_narrow_one(
    name: str, binding: Binding, sizes: tuple[int, int, int], activation: type[nn.Module], biases, seed: int
) -> None:
    torch.manual_seed(seed)
    d_in, neurons, d_out = sizes
    shallow = nn.Sequential(
        nn.Linear(d_in, neurons, bias=biases[0]), activation(), nn.Linear(neurons, d_out, bias=biases[1])
    ).double()
    deep = mm.theory.construct(shallow, ALGORITHMS[name], binding)
    x = torch.randn(7, d_in, dtype=torch.double)
    torch.testing.assert_close(deep(x), shallow(x), rtol=0, atol=1e-10)
    assert deep.stem.out_features == d_in + d_out
    assert len(deep.stage.layers) == neurons
    hidden = [
        m.out_features for m in deep.stage.modules() if isinstance(m, nn.Linear) and m.out_features != d_in + d_out
    ]
    assert set(hidden) <= {1}


def test_what_cannot_be_constructed_is_refused() -> None:
    shallow = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1))
    with pytest.raises(ValueError, match=r"gather is True; it is for a ShallowConvolution with padding='circular'"):
        mm.theory.construct(shallow, "leapfrog", gather=True)
    with pytest.raises(ValueError, match="splitting is 'euler', but shallow is Sequential; it cuts attention"):
        mm.theory.construct(shallow, "leapfrog", splitting="euler")
    with pytest.raises(ValueError, match=r"expected nn.Sequential\(nn.Linear, activation, nn.Linear\)"):
        mm.theory.construct(nn.Sequential(nn.Linear(2, 5), nn.ReLU()), "gradient_descent")
    for activation in (nn.Softmax(-1), nn.PReLU(5), nn.LayerNorm(5), nn.Linear(5, 5)):
        with pytest.raises(ValueError, match="an activation that acts entry by entry"):
            mm.theory.construct(nn.Sequential(nn.Linear(2, 5), activation, nn.Linear(5, 1)), "gradient_descent")
    with pytest.raises(ValueError, match="Did you mean 'heavy_ball'"):
        mm.theory.construct(shallow, "heavy_bal")

    class Drifting(mm.Algorithm):
        def start(self, x):
            return x

        def step(self, state, gradient, k):
            return 0.5 * state - gradient(state)

        def read(self, state):
            return state

    with pytest.raises(ValueError, match="Drifting is not consistent: with zero answers the query of layer 1"):
        mm.theory.construct(shallow, Drifting)
