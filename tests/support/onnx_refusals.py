"""What the importer refuses: a typed error, on one line, with certain words."""

from __future__ import annotations

from typing import Any

import pytest

from convc.errors import ConvcError
from convc.frontends.onnx import read


def refuse(source: Any, error: type[Exception], *words: str, **options: Any) -> None:
    """Importing must raise `error`, a ConvcError, in one line that contains all the words."""
    with pytest.raises(error) as raised:
        read(source, notice=lambda message: None, **options)
    assert isinstance(raised.value, ConvcError)
    text = str(raised.value)
    assert text.isprintable()
    assert [word for word in words if word not in text] == [], text
