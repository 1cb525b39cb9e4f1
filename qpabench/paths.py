"""Paths given in suites: what no file can be called is refused while the suite is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator


def _usable(text: str) -> str:
    try:
        if "\0" in text:
            raise ValueError("it holds a null character")
        Path(text).expanduser().exists()  # raises for names too long, users unknown, folders closed
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"expected a path ({reason})") from error
    return text


#: a file or folder that may be absent, but could be there
LocalPath = Annotated[str, AfterValidator(_usable)]
