"""What a command of the command line printed and how it ended."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Run(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)
