"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A fault, or a check that could not be made.

    Attributes:
        text: what is wrong, what was expected, and what to do. No secret.
        unknown: whether the check could not be made.
    """

    text: str
    unknown: bool = False

    def __str__(self) -> str:
        return f"{'NOT CHECKED' if self.unknown else 'WRONG'}: {self.text}"
