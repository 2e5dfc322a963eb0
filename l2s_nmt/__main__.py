"""``python -m l2s_nmt`` is the same as ``l2s-nmt``."""

from l2s_nmt.cli import main

if __name__ == "__main__":
    main()
