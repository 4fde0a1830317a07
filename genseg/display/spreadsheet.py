"""Text in files that people open in spreadsheets."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(text: str) -> str:
    """Escape a text that a spreadsheet would take for a formula, by an apostrophe in front."""
    return f"'{text}" if text.startswith(FORMULA) else text
