"""Write the API reference as pages: every public function, class and recipe key, from its docstring.

python scripts/reference.py reference/
"""

from __future__ import annotations

import argparse
import pkgutil
import warnings
from pathlib import Path

import pdoc

import l2s_nmt


def write_reference(folder: Path) -> None:
    """Write one page a module; open ``index.html``."""
    # The package looks its names up when they are used, which a reader of its contents does not see.
    for name in l2s_nmt.__all__:
        setattr(l2s_nmt, name, getattr(l2s_nmt, name))
    pdoc.render.configure(docformat="google", footer_text="l2s_nmt", search=True)
    with warnings.catch_warnings():
        # Annotations that only a type checker can follow are shown as they are written.
        warnings.filterwarnings("ignore", message="Failed to run TYPE_CHECKING code")
        warnings.filterwarnings("ignore", message="Error parsing type annotation")
        pdoc.pdoc("l2s_nmt", *_modules(), output_directory=folder)


def _modules() -> list[str]:
    """The rooms, each with all that is in it, and the single files; not what runs when it is imported."""
    found = pkgutil.iter_modules(l2s_nmt.__path__, "l2s_nmt.")
    return [module.name for module in found if module.name != "l2s_nmt.__main__"]


def main() -> None:
    """Write it where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    write_reference(parser.parse_args().folder)


if __name__ == "__main__":
    main()
