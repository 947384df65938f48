"""Which models does this worker have just now?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from embedmq_worker.config import Model
from embedmq_worker.served import Served


class Roster(Mapping[str, Model]):
    """What all parts of a worker ask instead of its configuration, since orders and a file read anew change it: every
    model that may be loaded, as it is to be served. One that is taken off stays, unserved, until what was read of it
    is finished.
    """

    def __init__(self, served: Served, offset: int = -1) -> None:
        """`offset` is that of the last order in it."""
        self._now = served
        self._former: Mapping[str, Model] = {}
        self._leaving: frozenset[str] = frozenset()
        self.offset = offset

    def __getitem__(self, name: str) -> Model:
        found = self._now.models.get(name)
        if found is None and name not in self._leaving:
            raise KeyError(name)
        return self.last(name)

    def __iter__(self) -> Iterator[str]:
        yield from self._now.models
        yield from self._leaving

    def __len__(self) -> int:
        return len(self._now.models) + len(self._leaving)

    @property
    def models(self) -> Mapping[str, Model]:
        """Without those that are leaving; another object after each change."""
        return self._now.models

    @property
    def refused(self) -> Mapping[str, str]:
        """Models whose last order is not followed, and why."""
        return self._now.refused

    def entry(self, name: str) -> str:
        """The entry of the configuration whose checkpoint answers under a name; empty where it is the name's own."""
        return self._now.entries.get(name, "")

    def serves(self, name: str) -> bool:
        """Whether requests for a model are to be read here."""
        return name in self._now.models and self._now.models[name].served

    def last(self, name: str) -> Model:
        """A model, as it was last listed: of one that is gone, requests may still wait that came with those of others,
        on a shared topic or a retry topic. Raises KeyError for one that never was. May be called from any thread.
        """
        found = self._now.models.get(name)
        return self._former[name] if found is None else found

    def become(self, served: Served) -> None:
        """From now on it is this."""
        gone = {name: model for name, model in self._now.models.items() if name not in served.models}
        self._former = {**self._former, **gone}
        self._leaving = frozenset(gone)
        self._now = served

    def forget(self) -> None:
        """Nothing more is read of those that left."""
        self._leaving = frozenset()
