from collections.abc import Iterable
from typing import TypeVar

_T = TypeVar("_T")

# Enters its owner into the list `field_name` of every element.
class SynchronizedList(list[_T]):
    parent_obj: object
    field_name: str
    def __init__(self, parent_obj: object, field_name: str, initial: Iterable[_T]) -> None: ...
    def _add_to_elem(self, elem: _T) -> None: ...
    def _remove_from_elem(self, elem: _T) -> None: ...
