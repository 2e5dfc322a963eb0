"""``python -m l2s_nmt`` is the same as ``l2s-nmt``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command; Ctrl-C ends it quietly from its first moment on."""
    try:
        from l2s_nmt.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
