"""Ports of an operator that is called without a graph."""

from __future__ import annotations

from typing import Any


class InputPort:
    """Hands out one value for each name."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def receive(self, name: str) -> Any:
        return self.values[name]


class OutputPort:
    """Keeps what was emitted."""

    def __init__(self) -> None:
        self.emitted: list[tuple[str, Any]] = []

    def emit(self, value: Any, name: str) -> None:
        self.emitted.append((name, value))
