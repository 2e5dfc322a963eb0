from __future__ import annotations

import pytest
import torch

from l2s_nmt.decoder_state import DecoderState, Memory


def test_a_decoder_that_does_not_cache_its_attention_to_the_source_is_refused() -> None:
    """For only the shape of what the encoder said is kept."""
    state = DecoderState(Memory(torch.rand(2, 3, 4), torch.ones(2, 3)))
    keys = torch.rand(2, 1, 1, 4)
    state.cache.self_attention_cache.update(keys, keys, 0)
    with pytest.raises(ValueError, match="does not cache its attention to the source"):
        _ = state.hidden
