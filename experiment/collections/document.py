"""One document of a corpus."""

from dataclasses import dataclass

__all__ = ["Document"]


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus."""

    id: str
    title: str
    text: str

    @property
    def passage(self) -> str:
        """The text that is encoded: title, a space and text, stripped, as BEIR joins them."""
        return f"{self.title} {self.text}".strip()
