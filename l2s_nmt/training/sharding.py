"""Weights, gradients and optimiser state dealt out to the processes (FSDP2), whole only while they are used.

The policy is one unit: all its weights are gathered before a search and given back after the backward pass. Units
for each layer would save more memory, but every pass through one is a meeting of all processes, and how many passes
decoding takes is a matter of each process's sentences.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from l2s_nmt.errors import UserError

State = dict[str, Tensor]


def wanted() -> FullyShardedDataParallelPlugin | None:
    """What the launcher was told of sharding; None if nothing.

    Raises:
        UserError: it was told what would not work here.
    """
    if not _is_set("ACCELERATE_USE_FSDP"):
        return None
    if os.environ.get("FSDP_VERSION") != "2":  # of which accelerate might find fault itself
        raise _unfit("fsdp_version", 2)
    plugin = FullyShardedDataParallelPlugin()
    refused = {
        "fsdp_auto_wrap_policy": (plugin.auto_wrap_policy is not None, "NO_WRAP"),
        "fsdp_activation_checkpointing": (plugin.activation_checkpointing, False),
        "fsdp_offload_params": (_is_set("FSDP_OFFLOAD_PARAMS"), False),
        "fsdp_cpu_ram_efficient_loading": (_is_set("FSDP_CPU_RAM_EFFICIENT_LOADING"), False),
    }
    for key, (is_so, value) in refused.items():
        if is_so:
            raise _unfit(key, value)
    return plugin


def _unfit(key: str, value: object) -> UserError:
    return UserError(
        f"{key} of accelerate's configuration: only {value} works, since every process loads the model by itself, and "
        "it writes sentences of its own between the updates; see recipes/accelerate/fsdp.yaml"
    )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"


def insist(accelerator: Accelerator, plugin: FullyShardedDataParallelPlugin) -> None:
    """Let accelerate shard on a CPU as well, which it does on a GPU alone, and keep weights in full precision."""
    if accelerator.mixed_precision == "fp16":
        raise UserError("training.mixed_precision: fp16 does not go with FSDP; use bf16 or no")
    plugin.mixed_precision_policy = None  # autocast is what decides, as without sharding
    accelerator.state.fsdp_plugin = plugin
    accelerator.state.distributed_type = DistributedType.FSDP


def shard(accelerator: Accelerator, module: nn.Module) -> bool:
    """Keep a share of the weights on each process, if the launcher was told so; what refers to them is made after.

    Returns:
        Whether it was.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return False
    fully_shard(module).set_reshard_after_backward(False)  # further parts of an update are still to come
    return True


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Within this context each process has all weights, as plain tensors, and waits for nobody."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def reduce_after_backward(wrapped: nn.Module, wanted: bool) -> None:
    """Say whether the gradients of weights that are dealt out are reduced in the next backward pass."""
    if isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(wanted)


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor; a change shows in both."""
    if isinstance(tensor, DTensor):
        own: Tensor = tensor.to_local()
        return own
    return tensor


def dealt(tensor: Tensor, like: Tensor) -> Tensor:
    """A plain tensor that all processes have, dealt out as another one is."""
    if not isinstance(like, DTensor):
        return tensor
    mesh = like.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, like.placements, src_data_rank=None)


def undealt(share: Tensor, like: Tensor) -> Tensor:
    """What ``local`` gave of a tensor that is dealt out as another one is, as part of it again."""
    if not isinstance(like, DTensor):
        return share
    return DTensor.from_local(
        share, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def gathered(value: Any) -> Any:
    """A nest of containers with plain tensors, on the main process; all call it, and the others get empty ones."""
    return tree_map(lambda item: _gathered(item) if isinstance(item, DTensor) else item, value)


def _gathered(tensor: DTensor) -> Tensor:
    full: Tensor = tensor.full_tensor()
    return full.cpu() if torch.distributed.get_rank() == 0 else full[:0]


def weights_of(module: nn.Module) -> State:
    """All weights as plain tensors by name, as of ``gathered``; those with several names are the same object."""
    tensors = module.state_dict(keep_vars=True)
    plain: dict[int, Tensor] = {}
    for tensor in tensors.values():
        if id(tensor) not in plain:
            plain[id(tensor)] = gathered(tensor.detach())
    return {name: plain[id(tensor)] for name, tensor in tensors.items()}


@torch.no_grad()
def set_weights(module: nn.Module, weights: State) -> None:
    """Write weights in place; of those with several names, one is enough.

    Raises:
        ValueError: some are missing, too many, or of another shape.
    """
    tensors = module.state_dict(keep_vars=True)
    there = {id(tensors[name]) for name in weights if name in tensors}
    missing = [name for name, tensor in tensors.items() if id(tensor) not in there]
    if missing or weights.keys() - tensors.keys():
        raise ValueError(
            f"other weights than the model's: {', '.join(missing) or weights.keys() - tensors.keys()}"
        )
    for name, weight in weights.items():
        target = tensors[name]
        if target.shape != weight.shape:
            raise ValueError(f"{name}: {tuple(weight.shape)} instead of {tuple(target.shape)}")
        local(target).copy_(local(dealt(weight, target)))


def set_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what ``gathered`` gave of its ``state_dict``."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shares = {
        number: {name: dealt(v, parameters[number]) if v.dim() else v for name, v in values.items()}
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": shares})
