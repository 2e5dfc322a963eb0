from __future__ import annotations

from l2s_nmt.data.rows import fingerprint


def test_a_byte_that_moves_to_the_next_part_changes_the_fingerprint() -> None:
    every = [[b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""], [b"", b"abc"]]
    assert len({fingerprint(parts) for parts in every}) == len(every)
