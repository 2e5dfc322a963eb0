"""Numbers that are not finite: what is looked at, and what is kept of an update for a person to look at.

RUN/faults/update-N-RANK.json           why, and the sentences in words
RUN/faults/update-N-RANK.safetensors    what the search found on them, as far as it got
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from l2s_nmt.build_cost import Texts
from l2s_nmt.data.batches import Batch
from l2s_nmt.files import write_json
from l2s_nmt.search.search import Experience


def is_finite(experience: Experience) -> bool:
    """Whether all costs, and all losses observed, are finite."""
    found = [experience.costs.costs, experience.costs.other, experience.observed]
    return all(bool(values.isfinite().all()) for values in found if values is not None)


def spread_to_gradient(loss: Tensor) -> Tensor:
    """The loss, with a gradient that is not finite if the loss is not: so one look at the gradient's norm is enough,
    and processes that reduce their gradients agree."""
    return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan).to(loss.dtype)


def save_fault(
    folder: Path,
    update: int,
    rank: int,
    reason: str,
    model: nn.Module,
    parts: Sequence[Batch],
    experiences: Sequence[Experience | None],
    texts: Texts,
) -> Path:
    """Write down an update that could not be made.

    Args:
        folder: of the faults; made if missing.
        update: its number.
        rank: of this process.
        reason: what was not finite.
        model: with the gradients it came to.
        parts: the sentences of this process.
        experiences: what the search found on each part.
        texts: how ids become text.

    Returns:
        The JSON file.
    """
    path = folder / f"update-{update:08d}-{rank}.json"
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    write_json(
        path,
        {
            "update": update,
            "reason": reason,
            "weights_not_finite": [n for n, p in model.named_parameters() if not p.isfinite().all()],
            "gradients_not_finite": [name for name, grad in gradients.items() if not grad.isfinite().all()],
            "sentences": [sentence for part in parts for sentence in _sentences(part, texts)],
        },
    )
    tensors: dict[str, Tensor] = {}
    for number, experience in enumerate(experiences):
        if experience is not None:
            found = {
                "tokens": experience.trajectories.tokens,
                "sentence": experience.decisions.sentence,
                "position": experience.decisions.position,
                "actions": experience.decisions.actions,
                "mask": experience.decisions.mask,
                "costs": experience.costs.costs,
                "other": experience.costs.other,
                "visits": experience.decisions.visits,
            }
            tensors |= {f"{number}.{k}": v.cpu().contiguous() for k, v in found.items() if v is not None}
    save_file(tensors, path.with_suffix(".safetensors"))
    return path


def _sentences(batch: Batch, texts: Texts) -> list[dict[str, object]]:
    sources = texts.source(
        [row[mask].tolist() for row, mask in zip(batch.source, batch.source_mask, strict=True)]
    )
    targets = texts.target(
        [row[:length].tolist() for row, length in zip(batch.target, batch.target_lengths, strict=True)]
    )
    return [
        {"row": row, "source": source, "target": target}
        for row, source, target in zip(batch.rows.tolist(), sources, targets, strict=True)
    ]
