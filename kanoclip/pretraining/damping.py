"""Damp the blocks of a trained image tower: the less a block adds to the residual stream, the less it can overfit.

With a factor d_l per block l in 0..1, chosen on the validation sets,

    x_l = x_{l-1} + d_l (Attention_l(x_{l-1}) + MLP_l(x_{l-1} + d_l Attention_l(x_{l-1})))

The factors are multiplied into the output weights and biases of attention and MLP, so the model keeps its architecture
and its speed, and the V-V stream is damped too.
"""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from kanoclip.pretraining.averaging import Results, merit

FACTORS = (0.85, 0.7, 0.5)  # tried for every block, beside 1
OUTPUTS = ("attn.out_proj.weight", "attn.out_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias")


def damped(state: Mapping[str, Tensor], factors: Sequence[float]) -> dict[str, Tensor]:
    """Return the parameters of an open_clip model whose image blocks are damped.

    Args:
        state: parameters of the model.
        factors: one per block of the image tower, the first block first.
    """
    names = {
        f"visual.transformer.resblocks.{number}.{name}": factor
        for number, factor in enumerate(factors)
        for name in OUTPUTS
    }
    return {name: value * names[name] if name in names else value for name, value in state.items()}


def choose_damping(module: nn.Module, layers: int, judge: Callable[[], Results]) -> dict[tuple[float, ...], Results]:
    """Damp the blocks of a model with the best factors found in one pass from the last block to the first.

    Further passes would fit the factors to the noise of the validation sets (docs/results/pretraining.md).

    Args:
        module: an open_clip model; it is changed in place.
        layers: blocks of its image tower.
        judge: returns the validation results of the module in its current state.

    Returns:
        The validation results of all factors that were tried, in order; the first are those without damping.
    """
    state = {name: value.clone() for name, value in module.state_dict().items()}
    best = (1.0,) * layers
    tried: dict[tuple[float, ...], Results] = {best: judge()}
    for number in reversed(range(layers)):
        for factor in FACTORS:
            factors = (*best[:number], factor, *best[number + 1 :])
            module.load_state_dict(damped(state, factors))
            tried[factors] = judge()
        best = max(tried, key=lambda factors: merit(tried[factors]))
    module.load_state_dict(damped(state, best))
    return tried
