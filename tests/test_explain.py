"""Why each hit is there: the values, the words, the page and the picture."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

import oscillink_store as osc
from oscillink_store.errors import QueryError
from oscillink_store.explanation.choice import MOST_NODES, shown_edges, shown_nodes
from oscillink_store.explanation.values import Explanation
from oscillink_store.filters import Compare

QUESTION = "who owned The Collegian?"
HOSTILE = '<script>alert("1")</script> & $\\frac{ \x00 \u202e % {0} ]]>'
# Of one source; each but the first is only connected to the one before it.
ONE_SOURCE = osc.Parameters(sources=1, shared_weight=0.0, knn_weight=0.0)


class _Page(HTMLParser):
    """What a page loads and what it says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def explained(store: osc.Store, text: str = QUESTION, **options: object) -> Explanation:
    return store.search(text, **options).explain()  # type: ignore[arg-type]


def sentences(explanation: Explanation) -> dict[str, str]:
    return {explanation.nodes[why.node].id: why.sentence for why in explanation.reasons}


# values


def test_each_hit_says_along_which_path_it_came(store: osc.Store) -> None:
    told = sentences(explained(store, k=4, parameters=ONE_SOURCE))
    assert told["collegian"] == "source: highest evidence; named in the question"
    assert told["hbu"] == "via mention ← The Collegian"
    assert told["convention"] == (
        "via mention ← Houston Baptist University, via mention ← The Collegian"
    )


def test_an_arrow_shows_which_text_mentions_the_other(store: osc.Store) -> None:
    told = sentences(explained(store, "Houston Baptist University", k=3, parameters=ONE_SOURCE))
    assert told["collegian"] == "via mention → Houston Baptist University"
    assert told["convention"] == "via mention ← Houston Baptist University"


def test_a_candidate_that_nothing_leads_to_stands_by_its_own_evidence(store: osc.Store) -> None:
    told = sentences(explained(store, k=6, parameters=ONE_SOURCE))
    assert told["cake"] == "by its own evidence (no path from a source)"


def test_the_explanation_is_of_the_very_result(store: osc.Store) -> None:
    result = store.search(QUESTION, k=3)
    explanation = result.explain()
    hits = [explanation.nodes[why.node] for why in explanation.reasons]
    assert [(node.id, node.rank, node.score, node.gate) for node in hits] == [
        (hit.id, hit.rank, hit.score, hit.gate) for hit in result
    ]
    assert {node.id for node in explanation.nodes} == set(result.receipt.candidate_ids)
    assert explanation.receipt == result.receipt.id
    assert explanation.delta_h == result.receipt.delta_h
    assert explanation == result.explain()


def test_it_explains_the_generation_that_was_searched(store: osc.Store) -> None:
    result = store.search(QUESTION, k=3)
    before = result.explain()
    store.delete(["hbu"])
    store.maintain()
    assert result.explain() == before
    store.close()
    assert result.explain() == before


def test_a_score_is_the_sum_of_its_parts(make_store: Callable[..., osc.Store]) -> None:
    store = make_store(fields=osc.Fields(facets=["speaker"]))
    store.ingest(
        [
            {"id": f"t{i}", "text": f"turn {i} on boats", "speaker": "Ann" if i % 2 else "Bob",
             "sequence": "s", "position": i}
            for i in range(8)
        ]
    )  # fmt: skip
    explanation = explained(store, "what did Ann say of boats?", k=8)
    bonus = store.parameters.facet_bonus
    for node in explanation.nodes:
        assert node.own is not None
        assert node.connected is not None
        assert node.score == pytest.approx(node.own + node.connected + (node.faceted or 0.0))
        assert node.faceted == (bonus if int(node.id[1:]) % 2 else 0.0)
        assert node.connected == pytest.approx(store.parameters.gate_weight * node.gate, abs=1e-9)
    assert "has the facet that the question names" in sentences(explanation)["t1"]


def test_edges_are_those_of_the_store_among_the_candidates(store: osc.Store) -> None:
    explanation = explained(store)
    weights = dict(
        zip(("next", "mention", "link", "shared", "knn"), store.parameters.relation_weights,
            strict=True)
    )  # fmt: skip
    ids = [node.id for node in explanation.nodes]
    expected = {
        (frozenset((edge["source"], edge["target"])), edge["relation"]):
            weights[edge["relation"]] * edge["weight"]
        for edge in store.edges().to_pylist()
        if {edge["source"], edge["target"]} <= set(ids)
    }  # fmt: skip
    found = {
        (frozenset((ids[edge.source], ids[edge.target])), edge.relation): edge.weight
        for edge in explanation.edges
    }
    assert found == pytest.approx(expected)
    mention = next(e for e in explanation.edges if e.relation == "mention" and e.source == 0)
    assert (ids[0], mention.points) == ("collegian", "forward")


def test_coupling_is_that_of_the_normalized_lattice(store: osc.Store) -> None:
    explanation = explained(store, k=3, parameters=ONE_SOURCE)
    (step,) = next(why.path for why in explanation.reasons if len(why.path) == 1)
    # with mentions alone, the newspaper has one neighbour and its university two
    assert step.relations == ("mention",)
    assert step.coupling == pytest.approx(1.0 / 2.0**0.5)


def test_titles_that_others_have_too_come_with_their_ids(
    make_store: Callable[..., osc.Store],
) -> None:
    store = make_store()
    store.ingest(
        [
            {"id": "a", "title": "Miracle", "text": "A film of 1947."},
            {"id": "b", "title": "Miracle", "text": "A film of 1994."},
            {"id": "c", "text": "A film without a title."},
        ]
    )
    names = {node.id: node.name for node in explained(store, "film").nodes}
    assert names == {"a": "Miracle (a)", "b": "Miracle (b)", "c": "c"}


@pytest.mark.parametrize(
    ("ranking", "sentence"),
    [
        ("hybrid", "by its evidence; named in the question"),
        ("dense", "by its cosine"),
        ("text", "by its full-text relevance"),
        ("mmr", "by its cosine, and unlike the hits before it"),
    ],
)
def test_rankings_without_the_lattice_are_explained_too(
    store: osc.Store, tmp_path: Path, ranking: str, sentence: str
) -> None:
    result = store.search(QUESTION, k=2, ranking=ranking)  # type: ignore[arg-type]
    explanation = result.explain()
    assert [explanation.nodes[why.node].id for why in explanation.reasons] == result.ids
    assert sentences(explanation)["collegian"] == sentence
    assert (explanation.edges, explanation.energy, explanation.delta_h) == ((), {}, None)
    assert explanation.nodes[0].own is None
    assert sentence in explanation.to_html()
    assert _size(explanation.save(tmp_path / "flat.png"))[0] == 1800


def test_a_filter_keeps_others_out(store: osc.Store) -> None:
    explanation = explained(store, k=9, where=Compare("lang", "eq", "de"))
    assert [node.id for node in explanation.nodes] == ["zeitung"]
    assert len(explanation.reasons) == 1
    assert "de" in explained(store, "Zeitung", where="lang = 'de'").to_html()


def test_a_search_by_vector_has_no_question(store: osc.Store) -> None:
    psi = np.ones(store.dimension)
    explanation = store.search(vector=psi, k=2).explain()
    assert explanation.question is None
    assert explanation.text().startswith("a search by vector\n")
    assert "a search by vector" in explanation.to_html()


def test_a_reranking_is_explained_among_its_own(store: osc.Store) -> None:
    explanation = store.rerank(["hbu", "cake", "dallas"], QUESTION, k=3).explain()
    assert {node.id for node in explanation.nodes} == {"hbu", "cake", "dallas"}


@pytest.mark.parametrize("filled", [True, False])
def test_nothing_found_is_said(
    make_store: Callable[..., osc.Store], rows: list[dict[str, object]], tmp_path: Path,
    filled: bool,
) -> None:  # fmt: skip
    store = make_store()
    if filled:
        store.ingest(rows)
    explanation = explained(store, where="lang = 'fr'" if filled else None)
    assert (explanation.nodes, explanation.reasons) == ((), ())
    assert "no anchor matches" in explanation.text()
    assert "no anchor matches" in explanation.to_html()
    assert _size(explanation.save(tmp_path / "nothing.png"))[0] == 1800


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_a_copy_says_that_it_left_the_store(
    store: osc.Store, copied: Callable[[osc.SearchResult], osc.SearchResult]
) -> None:
    result = store.search(QUESTION)
    other = copied(result)
    assert other == result
    with pytest.raises(QueryError, match="search again"):
        other.explain()
    result.explain()


# words, page, picture


def test_its_text_is_that_of_print(store: osc.Store, capsys: pytest.CaptureFixture[str]) -> None:
    explanation = explained(store, k=2, parameters=ONE_SOURCE)
    print(explanation)
    out = capsys.readouterr().out
    assert out == f"{explanation.text()}\n"
    for piece in (QUESTION, "The Collegian", "via mention ←", "ΔH", explanation.receipt):
        assert piece in out


def test_its_document_is_json(store: osc.Store) -> None:
    document = json.loads(json.dumps(explained(store, k=2, parameters=ONE_SOURCE).to_dict()))
    assert document["nodes"][0]["id"] == "collegian"
    assert document["reasons"][1]["path"][0]["relations"] == ["mention"]


def test_the_page_needs_no_network(store: osc.Store) -> None:
    text = explained(store, k=3).to_html()
    page = _Page(text)
    assert {"script", "link", "img", "iframe", "object", "embed"}.isdisjoint(page.tags)
    names = {value for name, value in page.attributes if name.startswith("xmlns")}
    assert set(re.findall(r"https?://[^\"'<> )]*", text)) == names
    loaded = [v for n, v in page.attributes if n in ("src", "href", "xlink:href", "data")]
    assert all(value.startswith("#") for value in loaded)
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_the_page_tells_all_of_it(store: osc.Store) -> None:
    explanation = explained(store, k=3, parameters=ONE_SOURCE)
    page = _Page(explanation.to_html())
    assert page.tags.count("svg") == 1
    for piece in (
        QUESTION, "Houston Baptist University", "via mention ← The Collegian",
        f"receipt {explanation.receipt}", "strongest path to a hit", "ΔH",
    ):  # fmt: skip
        assert piece in page.text
    assert page.tags.count("title") == 1 + len(shown_nodes(explanation))


def test_the_same_search_gives_the_same_bytes(store: osc.Store) -> None:
    explanation = explained(store)
    assert explanation.to_html() == explanation.to_html()


def test_hostile_texts_stay_texts(make_store: Callable[..., osc.Store], tmp_path: Path) -> None:
    store = make_store()
    store.ingest(
        [
            {
                "id": f"<b>{i}</b>",
                "title": f"{HOSTILE} {i}",
                "text": f"{HOSTILE} </svg><svg onload=x",
            }
            for i in range(4)
        ]
    )
    result = store.search(f"script alert {HOSTILE}", k=3)
    explanation = result.explain()
    for text in (explanation.to_html(), explanation._repr_html_(), result._repr_html_()):
        page = _Page(text)
        assert "script" not in page.tags
        assert not {name for name, _ in page.attributes if name.startswith("on")}
        assert '<script>alert("1")</script> & $\\frac{' in page.text
        assert not re.search("[\x00\u202e]", text)
    assert page.tags.count("b") == 3  # the titles of the hits, not the ids
    picture = re.search(r"<svg.*</svg>", explanation.to_html(), re.DOTALL)
    assert picture is not None
    ET.fromstring(picture[0])
    assert _size(explanation.save(tmp_path / "hostile.png"))[0] == 1800


def test_the_picture_is_an_image(store: osc.Store, tmp_path: Path) -> None:
    path = explained(store, k=3).save(tmp_path / "why.PNG")
    pixels = imread(io.BytesIO(path.read_bytes()), format="png")
    assert pixels.shape[1] == 1800
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


def _size(path: Path) -> tuple[int, int]:
    height, width = imread(io.BytesIO(path.read_bytes()), format="png").shape[:2]
    return width, height


def test_other_endings_are_refused(store: osc.Store, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match=r"why\.svg.*\.html or \.png"):
        explained(store).save(tmp_path / "why.svg")
    assert list(tmp_path.glob("why*")) == []


def many(store: osc.Store, anchors: int, hits: int) -> Explanation:
    """Chains of notes on one subject, more than a picture has room for."""
    store.ingest(
        [
            {"id": f"n{i}", "title": f"Note {i:03} of chapter {i % 7}", "sequence": str(i % 7),
             "position": i, "text": f"Boats, harbours and the tide number {i}."}
            for i in range(anchors)
        ]
    )  # fmt: skip
    return explained(store, "boats in harbours at tide number 5", k=hits)


@pytest.mark.parametrize("hits", [1, 5, 200])
def test_a_picture_shows_what_matters_and_counts_the_rest(
    make_store: Callable[..., osc.Store], hits: int
) -> None:
    explanation = many(make_store(), 120, hits)
    shown = shown_nodes(explanation)
    assert len(shown) == MOST_NODES
    chosen = set(shown)
    assert {why.node for why in explanation.reasons[:20]} <= chosen
    assert {at for at, node in enumerate(explanation.nodes) if node.source} <= chosen
    assert {s.source for why in explanation.reasons[:20] for s in why.path} <= chosen
    edges = shown_edges(explanation, shown)
    hidden, left = len(explanation.nodes) - len(shown), len(explanation.edges) - len(edges)
    assert f"Not shown: {hidden} more candidates and {left} more edges." in explanation.to_html()


def _labels(explanation: Explanation) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of every text of the picture, in inches."""
    from oscillink_store.explanation import drawing

    with drawing._style(explanation):
        figure = drawing._Drawing(explanation).figure
        renderer = figure.canvas.get_renderer()
        (axes,) = figure.axes
        boxes = [text.get_window_extent(renderer) for text in axes.texts]
    width, height = figure.get_size_inches() * figure.dpi
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
    return [(b.x0, b.y0, b.x1, b.y1) for b in boxes]


@pytest.mark.parametrize("title", ["short", "a longer title of quite a few words {}", "x" * 300])
@pytest.mark.parametrize("ranking", ["lattice", "hybrid"])
def test_no_label_covers_another_or_is_cut(
    make_store: Callable[..., osc.Store], title: str, ranking: str
) -> None:
    store = make_store()
    store.ingest(
        [
            {"id": f"n{i}", "title": title.format(i), "text": f"Boats and tides, number {i}. " * 20,
             "sequence": str(i % 3), "position": i}
            for i in range(60)
        ]
    )  # fmt: skip
    explanation = explained(store, "boats and tides", k=12, ranking=ranking)
    labels = _labels(explanation)
    assert len(labels) > 30
    for at, (x0, y0, x1, y1) in enumerate(labels):
        for u0, v0, u1, v1 in labels[:at]:
            # letters keep apart; the boxes around their lines may touch
            across, along = min(x1, u1) - max(x0, u0), min(y1, v1) - max(y0, v0)
            assert across <= 1.0 or along <= 0.2 * min(y1 - y0, v1 - v0)


def test_without_matplotlib_texts_remain_and_the_remedy_is_named(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["matplotlib"] = None
import oscillink_store as osc
with osc.connect({str(tmp_path / "s.osc")!r}, embedder="hash") as store:
    store.ingest([{{"id": "a", "text": "one text"}}])
    result = store.search("text")
explanation = result.explain()
assert "source: highest evidence" in explanation.text()
assert "<table>" in result._repr_html_()
assert "<table>" in explanation._repr_html_() and "[explain]" in explanation._repr_html_()
for name in ("a.png", "a.html"):
    try:
        explanation.save({str(tmp_path)!r} + "/" + name)
    except osc.OscillinkError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pip install 'oscillink-store[explain]'") == 2
    assert list(tmp_path.glob("a.*")) == []


def test_searching_does_not_load_matplotlib(tmp_path: Path) -> None:
    code = f"""
import sys
import oscillink_store as osc
with osc.connect({str(tmp_path / "s.osc")!r}, embedder="hash") as store:
    store.ingest([{{"id": "a", "text": "one text"}}])
    store.search("text").explain().text()
print("matplotlib" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# notebooks


def test_a_result_shows_itself_in_a_notebook(store: osc.Store) -> None:
    result = store.search(QUESTION, k=2)
    page = _Page(result._repr_html_())
    assert page.tags.count("tr") == 3
    for hit in result:
        assert hit.title in page.text
        assert f"{hit.score:.3g}" in page.text
    assert result.receipt.id in page.text


def test_a_result_without_hits_or_lattice_shows_itself(store: osc.Store) -> None:
    assert _Page(store.search(QUESTION, where="lang = 'fr'")._repr_html_()).tags.count("tr") == 1
    flat = _Page(store.search(QUESTION, k=1, ranking="text")._repr_html_())
    assert "None" not in flat.text


def test_two_explanations_on_one_page_keep_their_styles_apart(store: osc.Store) -> None:
    one, other = explained(store)._repr_html_(), explained(store, "cake")._repr_html_()
    selectors = [
        {line.split("{")[0].strip() for line in re.findall(r"^[.@].*{", text, re.MULTILINE)}
        for text in (one, other)
    ]
    assert selectors[0] & selectors[1] <= {"@media (prefers-color-scheme: dark)"}
    styles = re.findall(r"<style.*?</style>", one, re.DOTALL)
    assert len(styles) == 1
    assert "*" not in styles[0]


def test_evidence_does_not_go_by_what_nobody_trusts(
    make_store: Callable[..., osc.Store], rows: list[dict[str, object]]
) -> None:
    store = make_store()
    store.ingest(rows)
    store.set_gates({"hbu": 0.5})
    half = explained(store, k=6, parameters=ONE_SOURCE)
    (step,) = next(why.path for why in half.reasons if len(why.path) == 1)
    assert step.coupling == pytest.approx(0.5 / 2.0**0.5)
    store.set_gates({"hbu": 0.0})
    told = sentences(explained(store, k=6, parameters=ONE_SOURCE))
    assert told["convention"] == "by its own evidence (no path from a source)"


def test_the_terms_of_the_energy_add_up(store: osc.Store) -> None:
    energy = store.search("who owned The Collegian?").explain()
    assert energy.delta_h is not None
    assert all(term >= 0.0 for term in energy.energy.values())
    assert math.fsum(energy.energy.values()) == pytest.approx(energy.delta_h)
    assert {"mention", "knn"} <= energy.energy.keys()
