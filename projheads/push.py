"""Push a model folder to the Hugging Face Hub, a trial with its leaderboard."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from projheads.card import CARD_FILE, for_hub, read_card, set_license
from projheads.errors import ProjheadsError
from projheads.hosts.trust import check_links

__all__ = ["Push", "Sent", "plan_push", "push"]

TRIAL_FILES = ("trial.json", "train.jsonl")
LEADERBOARD_FILES = ("leaderboard.md", "leaderboard.csv")
"""Files of a report that name no path of this machine."""


@dataclass(frozen=True)
class Sent:
    """One file that is sent.

    Attributes:
        path: Its path in the repository.
        file: The file.
        bytes: Its size.
        text: What is sent instead of the file's own content; None to send the file.
    """

    path: str
    file: Path
    bytes: int
    text: str | None = None


@dataclass(frozen=True)
class Push:
    """What is sent where.

    Attributes:
        repo: The repository, ``owner/name``.
        files: The files, in the order of their paths.
    """

    repo: str
    files: tuple[Sent, ...]


def plan_push(folder: Path, repo: str, *, license: str | None = None) -> Push:
    """List what is sent; uses no network.

    Args:
        folder: A model folder, or the folder of a trial, whose model is sent with its trial.json, its train.jsonl and
            its experiment's leaderboard.
        repo: The repository, ``owner/name``.
        license: Licence for the card, by its identifier on the Hub; None keeps what the card says.

    Raises:
        ProjheadsError: If the folder holds no model or links to files outside of it, or the name is not one of the Hub.
    """
    _check_name(repo)
    trial = folder if (folder / "model").is_dir() else folder.resolve().parent
    model = folder / "model" if (folder / "model").is_dir() else folder
    if not any((model / name).is_file() for name in ("modules.json", "config.json", "model.onnx")):
        raise ProjheadsError(f"{folder}: not a model folder; pass one, or the folder of a trial")
    check_links(model)
    files = [_sent(file, file.relative_to(model).as_posix()) for file in _visible(model)]
    if (trial / "trial.json").is_file():
        files += [_sent(trial / name, f"trial/{name}") for name in TRIAL_FILES if (trial / name).is_file()]
        report = trial.resolve().parents[2] / "report"
        files += [
            _sent(report / name, f"leaderboard/{name}") for name in LEADERBOARD_FILES if (report / name).is_file()
        ]
    card = read_card(model)
    if card is None:
        raise ProjheadsError(f"{model / CARD_FILE}: the model has no card; write one first")
    if license is not None:
        set_license(card, license)
    text = for_hub(card, model.name, repo)
    files = [Sent(one.path, one.file, len(text.encode()), text) if one.path == CARD_FILE else one for one in files]
    return Push(repo, tuple(sorted(files, key=lambda one: one.path)))


def push(planned: Push, *, private: bool = False) -> str:
    """Send the files in one commit; the repository is created if it does not exist.

    Args:
        planned: What is sent.
        private: Whether a repository that is created is private.

    Returns:
        The address of the commit.

    Raises:
        ProjheadsError: If the Hub cannot be reached or refuses it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi()
    operations = [
        CommitOperationAdd(one.path, str(one.file) if one.text is None else one.text.encode("utf-8"))
        for one in planned.files
    ]
    with _one_line(planned.repo):
        api.create_repo(planned.repo, private=private, exist_ok=True)
        made = api.create_commit(planned.repo, operations, commit_message="Add the model with projheads")
    return str(made.commit_url)


def _visible(folder: Path) -> list[Path]:
    """List the files of a folder, without hidden ones."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def _sent(file: Path, path: str) -> Sent:
    return Sent(path, file, file.stat().st_size)


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ProjheadsError(f'"{repo}": not the name of a repository on the Hub ({error})') from None
    if "/" not in repo:
        raise ProjheadsError(f'"{repo}": not the name of a repository on the Hub; write owner/name')


@contextmanager
def _one_line(repo: str) -> Iterator[None]:
    """Turn the Hub's errors into one line."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        said = error.server_message or str(error).splitlines()[0]
        advice = "; log in with `hf auth login`" if status in (401, 403) else ""
        raise ProjheadsError(f"{repo}: the Hub refused it ({status}: {said}){advice}") from None
    except _network_errors() as error:
        raise ProjheadsError(f"{repo}: the Hub cannot be reached ({type(error).__name__}); try again later") from None


def _network_errors() -> tuple[type[Exception], ...]:
    """Return the errors of a lost network: huggingface_hub raises those of httpx, or of httpx2 from version 2 on."""
    names = [name for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
    return (ConnectionError, *(importlib.import_module(name).TransportError for name in names))
