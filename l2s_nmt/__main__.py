"""``python -m l2s_nmt`` is the same as ``l2s-nmt``."""

from __future__ import annotations

from l2s_nmt.interruption import interruptible


def main() -> None:
    """Run a command; Ctrl-C ends it quietly from its first moment on."""
    with interruptible():
        from l2s_nmt.cli import main as run

        run()


if __name__ == "__main__":
    main()
