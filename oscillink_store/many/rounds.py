"""One search of several stores, in rounds: survey, gather, spread, settle.

The score of an anchor is made of its own evidence, whose statistics add up over stores exactly,
and of what flows to it along the lattice, which never leaves a store. So with the statistics of
all stores, and with the sources and the scale chosen among all candidates, the answer is that
of one store that holds all anchors:

1. every store counts its anchors and the words of the question;
2. every store finds its candidates under the statistics of all, by numbers;
3. those that hold the best seeds (three, by default) add their neighbours;
4. every store settles its candidates and gives away its own of the hits.

What flows from the sources is computed here, over the lattices that round 3 has cut out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from oscillink_store.engine.part import Candidates, Joint, Kept
from oscillink_store.engine.query import Query
from oscillink_store.engine.standing import Flow, Moments, Numbers, flat, flow, seeds, standing
from oscillink_store.filters import Filter
from oscillink_store.lattice.postings import TextStatistics
from oscillink_store.lattice.rank import order
from oscillink_store.many.answers import Gathered, PartQuestion, Settled, Spread, Survey
from oscillink_store.many.asking import Asking
from oscillink_store.many.merge import (
    Pool,
    corpus_of,
    kept_of,
    meant_facets,
    meant_rows,
    moments_of,
    narrowed,
    side_by_side,
    with_words,
)
from oscillink_store.many.tasks import gather_part, settle_part, spread_part, survey

__all__ = ["Found", "search"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a search of several stores found.

    ``surveys`` are those of the stores that began it, ``settled`` what those gave in the end
    that were not left out, by name. ``corpus`` and ``moments`` are over all anchors, ``scale``
    is that of the evidence. ``hits`` are store and place among its own hits, best first, with
    ``scores``.
    """

    query: Query
    surveys: Mapping[str, Survey]
    corpus: TextStatistics | None
    moments: Moments
    scale: tuple[float, float] | None
    settled: Mapping[str, Settled]
    hits: list[tuple[str, int]]
    scores: list[float]


class _Ranking(NamedTuple):
    """All candidates as they are ranked; arrays are (n,)."""

    pool: Pool
    evidence: Floats
    lifted: Bools
    scores: Floats
    flowed: Flow | None
    pull: npt.NDArray[np.float32] | None
    vectors: npt.NDArray[np.float32] | None


def search(
    asking: Asking,
    text: str | None,
    where: str | Filter | None,
    query_of: Callable[[Asking, dict[str, Survey]], Query],
    *,
    generations: Mapping[str, int] | None = None,
    record: bool = True,
) -> Found:
    """Ask several stores one question.

    Args:
        asking: The stores, and how they are asked.
        text: The question in words.
        where: What its anchors must satisfy.
        query_of: Makes the query once it is known what the stores are; leaves out, as
            ``asking`` does, those that it does not fit.
        generations: Which ones to search, by store; the live ones if None.
        record: Whether the stores record the receipts of their parts.

    Raises:
        QueryError: the question cannot be asked of any store.
        UnansweredError: none of the stores answered.
    """
    pinned = generations or {}
    surveys = asking.ask(
        "survey", survey, {name: (text, where, pinned.get(name)) for name in asking.names}
    )
    query = query_of(asking, surveys)
    surveys = {name: surveys[name] for name in asking.names}
    return _Search(asking, query, surveys).run(record=record)


class _Search:
    """A search from its second round on."""

    def __init__(self, asking: Asking, query: Query, surveys: dict[str, Survey]) -> None:
        self._asking, self._query, self._surveys = asking, query, surveys
        self._generations = {name: each.generation for name, each in surveys.items()}
        self._corpus = None if query.words is None else corpus_of(surveys)
        named = meant_rows(surveys, query.parameters) if query.looks_for_names else {}
        facets = meant_facets(surveys) if query.parameters.ranking == "lattice" else {}
        counted = None
        if self._corpus is not None and self._corpus.frequencies is not None:
            counted = (self._corpus.anchors, self._corpus.length, self._corpus.frequencies)
        self._questions = {
            name: PartQuestion(
                query=query, generation=each.generation, statistics=counted,
                named=named.get(name, np.empty(0, np.int64)), facets=facets,
            )
            for name, each in surveys.items()
        }  # fmt: skip
        self._seeds: dict[str, Rows] = {}

    def run(self, *, record: bool) -> Found:
        query, asking = self._query, self._asking
        gathered = asking.ask(
            "gather", gather_part, {name: (self._questions[name],) for name in asking.names},
            generations=self._generations,
        )  # fmt: skip
        kept = kept_of(gathered, query)
        moments = moments_of(gathered, kept, query)
        if query.parameters.ranking == "lattice":
            ranking = self._flowing(gathered, kept, moments)
        else:
            ranking = self._flat(gathered, kept, moments)
        joints = self._joints(gathered, kept, moments, ranking)
        return self._settle(gathered, joints, moments, ranking, record=record)

    def _flat(
        self, gathered: dict[str, Gathered], kept: dict[str, Kept], moments: Moments
    ) -> _Ranking:
        query = self._query
        cut = {name: narrowed(found, kept[name], query) for name, found in gathered.items()}
        pool = Pool.of({name: numbers for name, (numbers, _) in cut.items()})
        vectors = np.empty((len(pool.numbers.rows), 0), np.float32)  # looked at by "mmr" alone
        given = [
            found.vectors[cut[name][1]]
            for name, found in gathered.items()
            if found.vectors is not None
        ]
        if given:
            vectors = np.concatenate(given)
        evidence = standing(pool.numbers, moments, query.parameters)
        scores, _ = flat(pool.numbers, evidence, vectors, query)
        none = np.zeros(len(scores), np.bool_)
        return _Ranking(pool, evidence, none, scores, None, None, vectors)

    def _flowing(
        self, gathered: dict[str, Gathered], kept: dict[str, Kept], moments: Moments
    ) -> _Ranking:
        query = self._query
        cut = {name: narrowed(found, kept[name], query) for name, found in gathered.items()}
        own = {name: numbers for name, (numbers, _) in cut.items()}
        lifted = {name: gathered[name].lifted[places] for name, (_, places) in cut.items()}
        spread = self._spread(own, moments)
        for name, found in spread.items():
            own[name] = with_words(found.numbers, gathered[name], kept[name], query)
            lifted[name] = found.lifted
        own = {name: own[name] for name in self._asking.names}
        pool = Pool.of(own)
        evidence = standing(pool.numbers, moments, query.parameters)
        raised = np.concatenate([np.empty(0, np.bool_), *(lifted[name] for name in own)])
        if len(evidence) == 0:
            return _Ranking(pool, evidence, raised, evidence, None, None, None)
        graph = side_by_side(own, {name: found.graph for name, found in spread.items()})
        flowed = flow(evidence, pool.numbers, graph, raised, query.parameters)
        pull = None
        if query.vector is None:
            # a question of words alone is settled towards what its best source says
            for name, places in pool.own_places(flowed.sources[:1]).items():
                vectors = spread[name].vectors if len(places) else None
                pull = pull if vectors is None else vectors[places[0]]
        return _Ranking(pool, evidence, raised, flowed.scores, flowed, pull, None)

    def _spread(self, own: dict[str, Numbers], moments: Moments) -> dict[str, Spread]:
        """Candidates with the neighbours of the best of all, from the stores that hold these.

        When one of them fails, the next best take its place.
        """
        parameters = self._query.parameters
        spread: dict[str, Spread] = {}
        while True:
            alive = {name: own[name] for name in self._asking.names}
            pool = Pool.of(alive)
            best = seeds(standing(pool.numbers, moments, parameters), pool.numbers, parameters)
            chosen = {
                name: alive[name].rows[places]
                for name, places in pool.own_places(best).items()
                if len(places)
            }
            due = {
                name: rows
                for name, rows in chosen.items()
                if not np.array_equal(rows, self._seeds.get(name, rows[:0]))
            }
            if not due:
                return {name: spread[name] for name in chosen}
            self._seeds |= due
            spread |= self._asking.ask(
                "spread", spread_part,
                {name: (self._questions[name], alive[name].rows, r) for name, r in due.items()},
                generations=self._generations,
            )  # fmt: skip

    def _joints(
        self,
        gathered: dict[str, Gathered],
        kept: dict[str, Kept],
        moments: Moments,
        ranking: _Ranking,
    ) -> dict[str, Joint]:
        pool, flowed = ranking.pool, ranking.flowed
        none = np.empty(0, np.int64)
        sources = none if flowed is None else flowed.sources
        own_sources = pool.own_places(sources)
        joints = {}
        for at, (name, share) in enumerate(self._shares(ranking).items()):
            rows, numbers = pool.parts[name].rows, gathered[name].numbers
            joints[name] = Joint(
                stores=len(self._surveys),
                statistics=self._corpus,
                moments=moments,
                kept=kept[name],
                named=numbers.rows[numbers.named],
                facets=self._questions[name].facets,
                seeds=self._seeds.get(name, none),
                scale=None if flowed is None else flowed.scale,
                sources=rows[own_sources[name]],
                weights=np.empty(0)
                if flowed is None
                else flowed.weights[pool.homes[sources] == at],
                flowing=rows[share > 0.0],
                shares=share[share > 0.0],
                pull=ranking.pull,
            )
        return joints

    def _shares(self, ranking: _Ranking) -> dict[str, Floats]:
        pool, flowed = ranking.pool, ranking.flowed
        return pool.apart(np.zeros(len(pool.numbers.rows)) if flowed is None else flowed.shares)

    def _settle(
        self,
        gathered: dict[str, Gathered],
        joints: dict[str, Joint],
        moments: Moments,
        ranking: _Ranking,
        *,
        record: bool,
    ) -> Found:
        """The hits from the stores that hold them, and the receipts of all.

        When one of them fails, the next best of the others take the place of its hits.
        """
        pool, asking = ranking.pool, self._asking
        shares = self._shares(ranking)
        evidence, scores = pool.apart(ranking.evidence), pool.apart(ranking.scores)
        lifted = pool.apart(ranking.lifted)
        given: dict[str, Rows] = {}
        settled: dict[str, Settled] = {}
        while True:
            best = self._best(ranking)
            chosen = pool.own_places(best)
            due = [
                name
                for name in asking.names
                if name not in given or not np.array_equal(given[name], chosen[name])
            ]
            if not due:
                break
            given |= {name: chosen[name] for name in due}
            candidates = {
                name: Candidates(
                    pool.parts[name], evidence[name], lifted[name], shares[name], scores[name],
                    chosen[name], gathered[name].routed,
                )
                for name in due
            }  # fmt: skip
            settled |= asking.ask(
                "settle", settle_part,
                {name: (self._questions[name], joints[name], candidates[name], record)
                 for name in due},
                generations=self._generations,
            )  # fmt: skip
        names = list(pool.parts)
        taken = dict.fromkeys(names, 0)
        hits = []
        for home in pool.homes[best].tolist():
            hits.append((names[home], taken[names[home]]))
            taken[names[home]] += 1
        return Found(
            query=self._query,
            surveys=self._surveys,
            corpus=self._corpus,
            moments=moments,
            scale=None if ranking.flowed is None else ranking.flowed.scale,
            settled={name: settled[name] for name in asking.names},
            hits=hits,
            scores=ranking.scores[best].tolist(),
        )

    def _best(self, ranking: _Ranking) -> Rows:
        """The places of the hits among the candidates of the stores that are left."""
        places = ranking.pool.of_stores(self._asking.names)
        if ranking.vectors is None:
            best = order(ranking.scores[places], places)
        else:
            there = ranking.pool.numbers.taken(places)
            best = flat(there, ranking.evidence[places], ranking.vectors[places], self._query)[1]
        return places[best[: self._query.k]]
