"""Upload to the Hugging Face hub, which happens when it is asked for and never else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, RepoUrl, get_token, is_offline_mode

from l2s_nmt.errors import UserError


def open_repository(name: str, *, private: bool) -> RepoUrl:
    """Make sure of a repository on the hub that can be written; it is made where there is none.

    Args:
        name: ``owner/name``, or a name of one's own.
        private: whether nobody else may see it.

    Returns:
        Its address, with its whole name.

    Raises:
        UserError: the name is none, there is no token or no connection, or the hub refuses.
    """
    if is_offline_mode():
        raise UserError(f"--push-to-hub {name}: HF_HUB_OFFLINE is set; unset it to reach the hub")
    if get_token() is None:
        raise UserError(
            f"--push-to-hub {name}: no token of the Hugging Face hub; log in by `hf auth login`, or set HF_TOKEN"
        )
    with _reaching(name):
        api = HfApi()
        repository = api.create_repo(name, private=private or None, exist_ok=True)
        hidden = not private or api.model_info(repository.repo_id).private
    if not hidden:
        raise UserError(
            f"--push-to-hub {name}: is there already, and public; leave --private out, or choose another"
        )
    return repository


def upload(name: str, weights: Path, card: str, exported: Path | None) -> None:
    """Upload a model in one commit.

    Args:
        name: of a repository.
        weights: the folder of weights and tokenizer.
        card: what the README.md of the repository says.
        exported: the folder of the model for CTranslate2, which goes into ``ctranslate2``.

    Raises:
        UserError: there is no connection, or the hub refuses.
    """
    folders = [("", weights)] if exported is None else [("", weights), ("ctranslate2/", exported)]
    files: dict[str, str | bytes] = {
        f"{place}{path.relative_to(folder)}": str(path)
        for place, folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    files["README.md"] = card.encode()
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=what) for name, what in files.items()]
    with _reaching(name):
        HfApi().create_commit(name, operations, commit_message="Weights, tokenizer and card")


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the library lets many kinds through; all mean that nothing was uploaded
        raise UserError(f"--push-to-hub {name}: nothing was uploaded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What the hub says of it, on one line: of an answer of its own the last lines, behind number and address."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("(Request ID", "For more information"))]
    return " ".join(told) or type(error).__name__
