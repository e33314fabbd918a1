"""Custom gradients that also support forward mode."""

from collections.abc import Callable
from typing import Any

import jax


def with_gradient(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function whose gradient is `backward`.

    Unlike `jax.custom_vjp` it also supports forward mode.

    Forward mode is the transpose of the gradient. JAX computes reverse mode as the transpose of
    forward mode, and therefore runs exactly the operations of `backward`.

    Args:
      forward: (*arguments) -> (result, residuals); both may be trees.
      backward: (residuals, cotangent of the result) -> a tuple with the cotangent of each
        argument, linear in the cotangent of the result. On a mesh each argument has to vary over
        the axes that its cotangent varies over: `collectives.varying_like`.
    """

    @jax.custom_jvp
    def function(*arguments: Any) -> Any:
        return forward(*arguments)[0]

    @function.defjvp
    def _(arguments: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        result, residuals = forward(*arguments)
        transposed = jax.linear_transpose(lambda cotangent: backward(residuals, cotangent), result)
        (tangent,) = transposed(tangents)
        return result, tangent

    return function
