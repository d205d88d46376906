"""Pages that a person reads: words in both languages, and jinja2 with every string escaped.

The templates lie in `templates/`; each page extends `base.html.j2`, which forbids scripts and
outside resources.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Text:
    """The same words in both languages of the page."""

    zh: str
    en: str


Words = Text | str  # a plain string reads the same in both


def environment() -> Environment:
    """A new jinja2 environment over `TEMPLATES`: escapes everything, knows no undefined names."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
