"""From the arguments of a search to a query that fits the stores, once these are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from oscillink_store.embed.resolve import resolve
from oscillink_store.engine.arguments import checked_detail
from oscillink_store.engine.ask import check_built, check_question, psi_of
from oscillink_store.engine.query import Query
from oscillink_store.errors import EmbedderError, QueryError
from oscillink_store.filters import Filter
from oscillink_store.many.answers import Survey
from oscillink_store.many.asking import Asking
from oscillink_store.model import Detail, Parameters, Ranking
from oscillink_store.receipts.receipt import Payload

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from oscillink_store.embed.protocol import Embedder

__all__ = ["Question"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """What a caller asks of several stores.

    Raises:
        QueryError: an argument cannot be used, whatever the stores are.
    """

    text: str | None
    vector: npt.ArrayLike | None
    k: int
    where: str | Filter | None
    ranking: Ranking | None
    label: str | None
    parameters: Parameters | None
    detail: Detail
    payload: Payload
    route: bool | None
    embedder: Embedder | None

    def __post_init__(self) -> None:
        """Look at what can be judged without a store."""
        constants = Parameters() if self.parameters is None else self.parameters
        check_question(self.text, self.vector, self.k, self.label, constants)
        checked_detail(self.detail)
        if self.route is not None and not isinstance(self.route, bool):
            raise QueryError(f"route is {self.route!r:.80}: pass True, False, or leave it out")
        if self.ranking is not None:
            replace(constants, ranking=cast("Ranking", str(self.ranking)))

    def query(self, asking: Asking, surveys: Mapping[str, Survey]) -> Query:
        """The query, and ``asking`` without the stores that it does not fit.

        Raises:
            QueryError: it fits none, or the stores differ in what is not given.
            EmbedderError: the embedder failed, or it is that of none of the stores.
        """
        filled = {name: each for name, each in surveys.items() if each.anchors}
        parameters = self.parameters or _common_parameters(filled)
        if self.ranking is not None:
            parameters = replace(parameters, ranking=cast("Ranking", str(self.ranking)))
        embedder = None
        if self.vector is None and parameters.ranking != "text":
            embedder = self.embedder or _common_embedder(filled)
        psi = psi_of(embedder, self.text, self.vector, None, parameters)
        for name, survey in filled.items():
            try:
                check_built(parameters, survey.parameters)
                _check_space(embedder, psi, survey)
            except (QueryError, EmbedderError) as error:
                asking.leave(name, "survey", error)
        asking.require(set(filled))
        free = psi is not None and self.where is None
        sharded = any(each.sharded for each in filled.values())
        if self.route and not (free and sharded):
            raise QueryError(
                "route: only a question with a vector and without a filter can be routed, in "
                "stores with shards: leave it out"
            )
        return Query(
            text=self.text, vector=psi, k=int(self.k), where=self.where, label=self.label,
            parameters=parameters, detail=self.detail, payload=self.payload,
            route=free and sharded and self.route is not False,
        )  # fmt: skip


def _common_parameters(surveys: Mapping[str, Survey]) -> Parameters:
    first: tuple[str, Parameters] | None = None
    for name, survey in surveys.items():
        if first is None:
            first = name, survey.parameters
        elif survey.parameters != first[1]:
            one, two = first[1].to_dict(), survey.parameters.to_dict()
            field = next(field for field in one if one[field] != two[field])
            raise QueryError(
                f"parameters: {field} is {one[field]!r} in store {first[0]!r} and "
                f"{two[field]!r} in {name!r}: pass parameters=, which all of them are ranked by"
            )
    return Parameters() if first is None else first[1]


def _common_embedder(surveys: Mapping[str, Survey]) -> Embedder | None:
    """The built-in embedder that the stores were filled with; None where there is no such."""
    names = {each.embedder: name for name, each in surveys.items() if each.embedder is not None}
    if len(names) > 1:
        told = ", ".join(f"{embedder!r} in {name!r}" for embedder, name in sorted(names.items()))
        raise EmbedderError(
            f"the stores were filled with different embedders, {told}: pass embedder= or vector= "
            "to search those that go with it, or ranking='text' for words alone"
        )
    # only the embedder that needs nothing loaded is made without being asked for
    return next((resolve(name) for name in names if name.startswith("hash")), None)


def _check_space(
    embedder: Embedder | None, psi: npt.NDArray[np.float32] | None, survey: Survey
) -> None:
    if embedder is not None and survey.embedder not in (None, embedder.name):
        raise EmbedderError(
            f"its vectors come from embedder {survey.embedder!r}, not {embedder.name!r}: their "
            "spaces do not match"
        )
    if psi is not None and survey.dimension not in (None, len(psi)):
        raise QueryError(
            f"vector has shape {psi.shape}, the store's embeddings have dimension "
            f"{survey.dimension}: pass a vector of the same embedder"
        )
