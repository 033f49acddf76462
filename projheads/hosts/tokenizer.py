"""What both hosts need of a tokenizer, and what a tokenizer's files may get wrong; imports neither host."""

from collections.abc import Iterable, Sequence
from typing import Any

from projheads.errors import ProjheadsError
from projheads.hosts.base import EncodingSettings

__all__ = ["check_prefixes", "check_shared", "known_words", "pad_on_the_right", "prepare_tokenizer"]


def pad_on_the_right(tokenizer: Any, config: Any) -> None:
    """Make a tokenizer pad after the text, so that an embedding does not depend on the other texts of its batch.

    PyLate inserts the prefix after the first token of a row, which would be padding, and absolute positions count from
    the first token. Any token can be the padding, since no token attends to it.

    Args:
        tokenizer: A tokenizer of transformers; changed in place.
        config: The model's configuration, whose ``pad_token_id`` comes first.

    Raises:
        ProjheadsError: If there is no token to pad with.
    """
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is not None:
        return
    configured = getattr(config, "pad_token_id", None)
    known = configured is not None and 0 <= configured < len(tokenizer)
    names = (tokenizer.eos_token, tokenizer.sep_token, tokenizer.mask_token, tokenizer.unk_token)
    token = tokenizer.convert_ids_to_tokens(configured) if known else next(filter(None, names), None)
    if token is None:
        raise ProjheadsError("the tokenizer has no token to pad with; set its pad_token")
    tokenizer.pad_token = token


def prepare_tokenizer(tokenizer: Any, config: Any, settings: EncodingSettings) -> None:
    """Prepare the tokenizer of a bare backbone, in place: it pads and truncates at the end of a text.

    Raises:
        ProjheadsError: If it has no token to pad with or to expand queries with.
    """
    pad_on_the_right(tokenizer, config)
    tokenizer.truncation_side = "right"
    if settings.query_expansion and tokenizer.mask_token_id is None and tokenizer.eos_token_id is None:
        raise ProjheadsError("the tokenizer has no mask token to expand queries with; use query_expansion: false")


def check_prefixes(tokenizer: Any, settings: EncodingSettings) -> None:
    """Check that a prefix comes before the text in PyLate, which inserts it after the first token.

    Raises:
        ProjheadsError: If texts have no first token such as [CLS].
    """
    for name in ("query_prefix", "document_prefix"):
        if getattr(settings, name) and not _has_first_token(tokenizer):
            raise ProjheadsError(
                "the tokenizer puts no token such as [CLS] before a text, and PyLate would insert the prefix after the "
                f'first word; use {name}: "", or sentence-transformers'
            )


def check_shared(tokenizer: Any, settings: EncodingSettings) -> None:
    """Check that both hosts read texts alike, for a model of the other host.

    Raises:
        ProjheadsError: If they put a prefix in different places, or only one of them loses it in a long text.
    """
    check_prefixes(tokenizer, settings)
    if tokenizer.truncation_side == "left" and (settings.query_prefix or settings.document_prefix):
        raise ProjheadsError(
            "the tokenizer truncates the beginning of a text, where only sentence-transformers loses the prefix; open "
            "the model in the host that wrote it"
        )


def known_words(tokenizer: Any, words: Iterable[str]) -> list[str]:
    """Return the words that are tokens of a vocabulary; the others would all become the unknown token."""
    vocabulary = tokenizer.get_vocab()
    return [word for word in words if word in vocabulary]


def _has_first_token(tokenizer: Any) -> bool:
    empty: Sequence[int] = tokenizer("", add_special_tokens=True)["input_ids"]
    text: Sequence[int] = tokenizer("a", add_special_tokens=True)["input_ids"]
    return bool(empty) and bool(text) and empty[0] == text[0]
