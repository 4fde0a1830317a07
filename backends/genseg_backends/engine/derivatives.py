"""The recipe's `response=linear`: what an offset changes to first order, by forward-mode derivatives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from torch import Tensor, nn
from torch.func import jvp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel


def derivatives(network: nn.Module, step: Callable[[Tensor], Tensor], at: Tensor, tangents: Tensor) -> Tensor:
    """The derivative of a step at one row, along each of several tangents.

    Args:
        network: What the step evaluates.
        step: Of [1, ...].
        at: [1, ...].
        tangents: [N, ...].

    Returns:
        [N, ...].
    """
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))  # torch's fused attention has no forward derivative
        for norm in norms:  # vmap's group norm takes no other memory layout
            hook = norm.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
            stack.callback(hook.remove)
        return vmap(lambda tangent: jvp(step, (at,), (tangent[None],))[1][0])(tangents)
