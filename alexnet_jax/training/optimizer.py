"""The paper's update rule (§5)."""

import jax
import optax


def paper_sgd(
    learning_rate: float | jax.Array, momentum: float = 0.9, weight_decay: float = 5e-4
) -> optax.GradientTransformation:
    """Stochastic gradient descent as the paper has it:

        v ← momentum · v − weight_decay · ε · w − ε · ∂L/∂w
        w ← w + v

    ε stands inside v: after ε drops, v still carries updates of the old size.
    In `optax.sgd` ε stands outside, and the two drift apart from the first drop.

    `learning_rate` (ε) may be traced: the state, v, does not depend on it.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
        optax.trace(decay=momentum),
    )
