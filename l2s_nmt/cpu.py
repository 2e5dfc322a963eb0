"""What makes training fast on a CPU; on a GPU none of it is used."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of glibc's mallopt
_KEPT = 1 << 28


def keep_freed_memory() -> None:
    """Let the C library keep large blocks for the next step instead of handing them back to the system.

    A training step allocates and frees the same tens of megabytes again and again (scores over the vocabulary
    above all). By default glibc maps each block anew, and the kernel clears it page by page: a sixth of a step.
    Other C libraries are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_TOP_PAD, _KEPT)


class FastDropout(TorchFunctionMode):
    """Within this context dropout on a CPU draws one 64-bit number for four elements, not one for each.

    torch draws the mask of a dropout element by element, which is a fifth of a training step of a small
    Transformer. Here the probability is rounded to a multiple of 2^-16, and kept elements are scaled by the
    rounded one. The draws come from torch's default generator.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace ``torch.nn.functional.dropout``; all else is left as it is."""
        if func is F.dropout:
            return _dropout(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    dropped = round(p * 2**16)
    if not training or not 0 < dropped < 2**16 or input.device.type != "cpu" or inplace:
        return F.dropout(input, p, training, inplace)
    words = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[: input.numel()].view(input.shape) >= dropped - 2**15
    return input * kept.to(input.dtype).mul_(2**16 / (2**16 - dropped))
