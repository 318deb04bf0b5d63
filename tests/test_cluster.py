"""Clusters: rows find their shards, reports add up, and the catalogue says what is so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_rows import DIMENSION, tenant_rows, with_vectors
from store_content import content

import oscillink_store as osc
from oscillink_store.cluster.catalogue import CATALOGUE_NAME, Catalogue, Placement
from oscillink_store.cluster.placement import homes_of
from oscillink_store.errors import (
    ClosedError,
    EmbedderError,
    FormatError,
    InputError,
    IntegrityError,
    LockedError,
    MissingError,
    NotAStoreError,
    QueryError,
)
from oscillink_store.filters import Compare
from oscillink_store.storage.lock import writer_lock
from oscillink_store.storage.mirror import push

MakeCluster = Callable[..., osc.Cluster]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Make clusters under the test's folder; all are closed afterwards."""
    opened: list[osc.Cluster] = []

    def make(name: str = "cluster", **options: Any) -> osc.Cluster:
        options = {"shards": 4, "by": "tenant"} | options
        opened.append(osc.create_cluster(tmp_path / name, **options))
        return opened[-1]

    yield make
    for cluster in opened:
        cluster.close()


def anchors_of(cluster: osc.Cluster) -> dict[str, list[dict[str, Any]]]:
    """Every shard's anchors."""
    found = {}
    for shard in cluster.shards(cluster.catalogue()):
        with osc.connect(shard.path, read_only=True) as store:
            found[shard.name] = store.to_arrow().to_pylist()
    return found


# ingest


def test_each_row_is_in_the_shard_of_its_tenant(make_cluster: MakeCluster) -> None:
    rows = with_vectors(tenant_rows(100))
    with make_cluster() as cluster:
        report = cluster.ingest(iter(rows), batch=30)
        held = anchors_of(cluster)
        assert sorted(row["id"] for each in held.values() for row in each) == sorted(
            row["id"] for row in rows
        )
        for name, each in held.items():
            assert {cluster.shard_of(row["tenant"]) for row in each} <= {name}
        assert sum(map(bool, held.values())) > 1
        assert (report.rows, report.added, report.updated, report.unchanged) == (100, 100, 0, 0)
        assert report.anchors == {name: len(each) for name, each in held.items()}
        assert len(cluster) == sum(report.anchors.values()) == 100
        receipts = [hash_ for hashes in report.receipts.values() for hash_ in hashes]
        assert len(receipts) == len(set(receipts)) >= sum(map(bool, held.values()))


def test_a_shard_is_what_a_store_of_its_rows_would_be(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    rows = tenant_rows(80)
    with make_cluster(embedder="hash:64") as cluster:
        cluster.ingest(rows)
        name = cluster.shard_of("tenant 3")
        mine = [row for row in rows if cluster.shard_of(row["tenant"]) == name]
        with osc.connect(tmp_path / "alone.osc", embedder="hash:64") as alone:
            alone.ingest(mine)
        assert content(tmp_path / "cluster" / f"{name}.osc") == content(tmp_path / "alone.osc")


def test_the_same_rows_again_change_nothing(make_cluster: MakeCluster) -> None:
    rows = with_vectors(tenant_rows(60))
    with make_cluster() as cluster:
        cluster.ingest(rows)
        before = cluster.summaries()
        report = cluster.ingest(rows, batch=7)
        assert (report.rows, report.unchanged, report.added, report.updated) == (60, 60, 0, 0)
        assert report.receipts == {}
        assert cluster.summaries().equals(before)


def test_a_row_whose_tenant_changes_moves(make_cluster: MakeCluster) -> None:
    rows = with_vectors(tenant_rows(40))
    with make_cluster() as cluster:
        cluster.ingest(rows)
        home = cluster.shard_of(rows[0]["tenant"])
        other = next(row["tenant"] for row in rows if cluster.shard_of(row["tenant"]) != home)
        rows[0]["tenant"] = other
        epoch = cluster.catalogue().epoch
        report = cluster.ingest(rows)
        assert (report.rows, report.added, report.unchanged, report.moved) == (40, 1, 39, 1)
        held = anchors_of(cluster)
        assert [name for name, each in held.items() if any(r["id"] == "r0" for r in each)] == [
            cluster.shard_of(other)
        ]
        assert sum(report.anchors.values()) == len(cluster) == 40
        assert cluster.catalogue().epoch == epoch + 1
        assert cluster.verify().ok


def test_rows_by_id_when_no_column_is_named(make_cluster: MakeCluster) -> None:
    with make_cluster(by=None, fields=osc.Fields(id="key")) as cluster:
        rows = [{"key": number, "text": "x", "vector": [1.0, number]} for number in range(30)]
        cluster.ingest(rows)
        homes = homes_of([str(number) for number in range(30)], 4)
        held = anchors_of(cluster)
        for number, home in enumerate(homes.tolist()):
            assert any(row["id"] == str(number) for row in held[f"shard-{home:04d}"])
        assert cluster.verify().ok


def test_a_file_is_streamed_and_its_rows_are_named(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    rows = with_vectors(tenant_rows(50))
    rows[37]["vector"] = [0.0] * DIMENSION
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with make_cluster() as cluster:
        with pytest.raises(InputError, match=r"rows\.jsonl, row 37: 'vector'") as caught:
            cluster.ingest(path, batch=20)
        assert (caught.value.row, caught.value.field) == (37, "vector")
        # the batch before it stays, and of its own batch what other shards were given
        name = cluster.shard_of(rows[37]["tenant"])
        stay = sum(n < 20 or cluster.shard_of(row["tenant"]) != name
                   for n, row in enumerate(rows[:40]))  # fmt: skip
        assert len(cluster) == cluster.stats()["anchors"] == stay
        assert sum(cluster.summaries()["anchors"].to_pylist()) == stay
        rows[37]["vector"] = [1.0] * DIMENSION
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        report = cluster.ingest(path, batch=20)
        assert (report.unchanged, report.added) == (stay, 50 - stay)


@pytest.mark.parametrize(
    ("change", "row", "words"),
    [
        ({"id": "r1"}, 5, "'r1' stands in the source before"),
        ({"id": None}, 5, "'id' is missing"),
        ({"tenant": None}, 5, "'tenant' is missing or empty"),
    ],
)
@pytest.mark.parametrize("batch", [3, 100])
def test_a_row_that_cannot_be_placed_is_named(
    make_cluster: MakeCluster, change: dict[str, Any], row: int, words: str, batch: int
) -> None:
    rows = with_vectors(tenant_rows(8))
    rows[5] |= change
    with make_cluster() as cluster:
        with pytest.raises(InputError, match=words) as caught:
            cluster.ingest(rows, batch=batch)
        assert caught.value.row == row


def test_an_empty_source_is_refused(make_cluster: MakeCluster) -> None:
    with make_cluster() as cluster, pytest.raises(InputError, match="no rows"):
        cluster.ingest([])


def test_vectors_are_needed_without_an_embedder(make_cluster: MakeCluster) -> None:
    with make_cluster() as cluster, pytest.raises((InputError, EmbedderError), match="vectors"):
        cluster.ingest(tenant_rows(3))


# delete


def test_delete_by_id_and_by_filter(make_cluster: MakeCluster) -> None:
    rows = with_vectors(tenant_rows(50))
    with make_cluster() as cluster:
        cluster.ingest(rows)
        report = cluster.delete(["r1", "r2", "r3", "r4"])
        assert report.deleted == 4
        gone = {"r1", "r2", "r3", "r4"}
        report = cluster.delete(where=Compare("year", "lt", 2010))
        gone |= {row["id"] for row in rows if row["year"] < 2010}
        assert sum(report.anchors.values()) == 50 - len(gone)
        held = {row["id"] for each in anchors_of(cluster).values() for row in each}
        assert held == {row["id"] for row in rows} - gone
        with pytest.raises(MissingError, match="'r2' is in no shard"):
            cluster.delete(["r35", "r2"])
        assert len(cluster) == 50 - len(gone)
        with pytest.raises(QueryError, match="either ids or where"):
            cluster.delete()


def test_nothing_is_deleted_by_sql_that_a_shard_cannot_use(make_cluster: MakeCluster) -> None:
    rows = with_vectors(tenant_rows(20))
    with make_cluster() as cluster:
        cluster.ingest(rows)
        cluster.ingest([{**rows[0], "lang": "en"}])
        with pytest.raises(QueryError, match=r"No field named lang.*Nothing was deleted.*filters"):
            cluster.delete(where="lang = 'en'")
        assert len(cluster) == 20
        assert cluster.delete(where=Compare("lang", "eq", "en")).deleted == 1


# summaries


def test_summaries_are_the_means_of_the_shards(make_cluster: MakeCluster) -> None:
    rows = with_vectors(tenant_rows(90))
    with make_cluster() as cluster:
        cluster.ingest(rows[:60])
        cluster.ingest(rows[60:])
        told = {row["shard"]: row for row in cluster.summaries().to_pylist()}
        for name, each in anchors_of(cluster).items():
            vectors = np.array([row["vector"] for row in each])
            assert told[name]["anchors"] == len(each)
            np.testing.assert_allclose(told[name]["vector"], vectors.mean(axis=0), atol=1e-5)
            with osc.connect(cluster.path / f"{name}.osc", read_only=True) as store:
                assert told[name]["generation"] == store.generation
        # with so few shards every other one is among the nearest; what points away has no edge
        for name, row in told.items():
            expected = {}
            for other in told:
                a, b = np.array(row["vector"]), np.array(told[other]["vector"])
                cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                if other != name and cosine > 0:
                    expected[other] = pytest.approx(cosine**3, abs=1e-6)
            assert {edge["shard"]: edge["weight"] for edge in row["edges"]} == expected
        assert any(row["edges"] for row in told.values())


def test_refresh_learns_what_others_did(make_cluster: MakeCluster) -> None:
    with make_cluster() as cluster:
        cluster.ingest(with_vectors(tenant_rows(40)))
        name = cluster.shard_of("tenant 1")
        with osc.connect(cluster.path / f"{name}.osc") as store:
            store.set_gates(0.5, where="tenant IS NOT NULL")
        cluster.refresh()
        told = {row["shard"]: row["gate"] for row in cluster.summaries().to_pylist()}
        assert told.pop(name) == 0.5
        assert set(told.values()) == {1.0}
        assert len(list((cluster.path / "summaries").iterdir())) == 1


def test_a_damaged_file_of_summaries_is_found_and_made_anew(make_cluster: MakeCluster) -> None:
    with make_cluster() as cluster:
        cluster.ingest(with_vectors(tenant_rows(40)))
        before = cluster.summaries()
        path = next((cluster.path / "summaries").iterdir())
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(IntegrityError, match=r"refresh\(\)"):
            cluster.summaries()
        assert not cluster.verify().ok
        cluster.refresh()
        assert cluster.summaries().equals(before)
        assert cluster.verify().ok


# verify


def test_verify_names_a_damaged_shard(make_cluster: MakeCluster) -> None:
    with make_cluster() as cluster:
        cluster.ingest(with_vectors(tenant_rows(60)))
        assert cluster.verify().ok
        name = cluster.shard_of("tenant 2")
        path = next((cluster.path / f"{name}.osc" / "segments").rglob("*.arrays"))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        report = cluster.verify()
        assert not report.ok
        assert all(problem.startswith(f"{name}: ") for problem in report.problems)
        assert any(path.name in problem for problem in report.problems)
        assert [n for n, each in report.shards.items() if each is not None and not each.ok] == [
            name
        ]


def test_verify_names_a_shard_that_is_gone(make_cluster: MakeCluster) -> None:
    with make_cluster() as cluster:
        cluster.ingest(with_vectors(tenant_rows(60)))
        (cluster.path / "shard-0002.osc" / "CURRENT").unlink()
        report = cluster.verify()
        assert report.shards["shard-0002"] is None
        assert any(p.startswith("shard-0002: ") and "CURRENT" in p for p in report.problems)


def test_verify_finds_anchors_in_the_wrong_shard(make_cluster: MakeCluster) -> None:
    rows = with_vectors(tenant_rows(60))
    with make_cluster() as cluster:
        cluster.ingest(rows)
        name = cluster.shard_of(rows[0]["tenant"])
        wrong = next(shard.name for shard in cluster.shards() if shard.name != name)
        with osc.connect(cluster.path / f"{wrong}.osc") as store:
            store.ingest([rows[0]])
        report = cluster.verify()
        assert (report.misplaced, report.twice) == (1, 1)
        assert any(p.startswith(f"{wrong}: 1 anchors belong in other") for p in report.problems)
        cluster.resize(4)  # puts everything in its place
        assert cluster.verify().ok
        assert len(cluster) == 60


# the catalogue


def test_a_cluster_opens_again_as_it_was_made(make_cluster: MakeCluster, tmp_path: Path) -> None:
    fields = osc.Fields(text="body", sequence=("doc", "part"), facets=["lang"])
    parameters = osc.Parameters(knn_neighbors=5)
    make_cluster(by="doc", fields=fields, parameters=parameters, embedder="hash:64").close()
    with osc.connect_cluster(tmp_path / "cluster") as cluster:
        rows = [{"id": str(n), "body": f"text {n}", "doc": n % 5, "part": n, "lang": "en"}
                for n in range(20)]  # fmt: skip
        assert cluster.ingest(rows).added == 20
        catalogue = cluster.catalogue()
        assert (catalogue.fields, catalogue.parameters) == (fields, parameters)
        with osc.connect(cluster.path / f"{cluster.shard_of(1)}.osc") as store:
            assert store.fields == fields
            assert store.parameters == parameters
            assert store.stats()["embedder"] == "hash:64"
        assert cluster.resize(5).moved == 20 - sum(
            a == b for a, b in zip(homes_of([str(n % 5) for n in range(20)], 4),
                                   homes_of([str(n % 5) for n in range(20)], 5), strict=True)
        )  # fmt: skip
        assert cluster.ingest(rows).unchanged == 20
        assert cluster.verify().ok


@pytest.mark.parametrize("damage", ["flip", "cut", "newer"])
def test_a_damaged_catalogue_is_refused(
    make_cluster: MakeCluster, tmp_path: Path, damage: str
) -> None:
    make_cluster().close()
    path = tmp_path / "cluster" / CATALOGUE_NAME
    content = path.read_text()
    changed = {
        "flip": content.replace('"shards": 4', '"shards": 5'),
        "cut": content[:-20],
        "newer": content.replace('"version": 1', '"version": 2'),
    }[damage]
    path.write_text(changed)
    expected = FormatError if damage == "newer" else IntegrityError
    with pytest.raises(expected, match=CATALOGUE_NAME):
        osc.connect_cluster(tmp_path / "cluster")


def test_no_cluster_and_a_second_one(make_cluster: MakeCluster, tmp_path: Path) -> None:
    with pytest.raises(NotAStoreError, match="is no cluster"):
        osc.connect_cluster(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    make_cluster()
    with pytest.raises(QueryError, match="holds a cluster already"):
        make_cluster()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shards": 0}, "shards is 0"),
        ({"shards": True}, "shards is True"),
        ({"by": "text"}, "each row's text"),
        ({"by": "vector"}, "each row's vector"),
        ({"executor": "threads"}, "executor is 'threads'"),
        ({"executor": "processes:0"}, "executor is 'processes:0'"),
        ({"executor": 3}, "executor is a int"),
        ({"fields": {}}, "fields is a dict"),
        ({"stores": {"a": "a.osc"}}, "by: stores that exist"),
        ({"stores": {}, "by": None}, "stores names none"),
    ],
)
def test_arguments_are_looked_at(
    make_cluster: MakeCluster, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(QueryError, match=words):
        make_cluster(**options)


def test_stores_of_others_are_verified_and_not_filled(
    make_cluster: MakeCluster, make_store: Callable[..., osc.Store], rows: list[dict[str, object]]
) -> None:
    make_store("a.osc").ingest(rows[:3])
    make_store("b.osc").ingest(rows[3:])
    with make_cluster(by=None, stores={"a": "../a.osc", "b": "../b.osc"}) as cluster:
        assert cluster.verify().ok
        assert len(cluster) == 6
        assert cluster.stats()["anchors"] == 6
        cluster.refresh()
        assert cluster.summaries()["anchors"].to_pylist() == [3, 3]
        for call in (lambda: cluster.ingest(rows), lambda: cluster.resize(3),
                     lambda: cluster.delete("cake"), lambda: cluster.shard_of("x")):  # fmt: skip
            with pytest.raises(QueryError, match="others fill the stores"):
                call()


def test_one_at_a_time_fills_a_cluster(make_cluster: MakeCluster) -> None:
    with make_cluster(lock_timeout=0.1) as cluster:
        with writer_lock(cluster.path, 1.0), pytest.raises(LockedError, match="is writing"):
            cluster.ingest(with_vectors(tenant_rows(3)))
        assert len(cluster) == 0


def test_a_closed_cluster_says_so(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.close()
    cluster.close()
    with pytest.raises(ClosedError, match="is closed"):
        cluster.stats()
    assert "closed" in repr(cluster)


def test_the_catalogue_reads_as_it_was_written(make_cluster: MakeCluster) -> None:
    with make_cluster() as cluster:
        catalogue = cluster.catalogue()
        path = cluster.path / CATALOGUE_NAME
        assert Catalogue.from_bytes(catalogue.to_bytes(), path) == catalogue
        document = json.loads(path.read_text())
        assert document["version"] == 1
        assert document["stores"]["shard-0003"] == "shard-0003.osc"
        other = replace(catalogue, placement=Placement(by="tenant", shards=4, hash="rendezvous"))
        with pytest.raises(FormatError, match=r"placed by 'rendezvous'.*upgrade"):
            Catalogue.from_bytes(other.to_bytes(), path)


def test_the_folder_stays_the_same_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with osc.create_cluster("cluster", shards=2, by="tenant") as cluster:
        monkeypatch.chdir("/")
        assert cluster.ingest(with_vectors(tenant_rows(4))).added == 4


def test_keys_are_given_one_by_one_or_together(tmp_path: Path) -> None:
    key = osc.Key.generate("audit")
    key.to_file(tmp_path / "audit.json")
    with osc.create_cluster(tmp_path / "cluster", shards=1, key=key) as cluster:
        cluster.ingest(with_vectors(tenant_rows(2)))
        for keys in (None, key, tmp_path / "audit.json", [key]):
            assert cluster.verify(keys=keys).ok


def test_stores_at_mirrors_are_pulled_where_they_are_read(
    make_cluster: MakeCluster,
    make_store: Callable[..., osc.Store],
    rows: list[dict[str, object]],
    tmp_path: Path,
) -> None:
    near, far = make_store("near.osc"), make_store("far.osc")
    near.ingest(rows[:3])
    far.ingest(rows[3:5])
    uri = (tmp_path / "bucket" / "far.osc").as_uri()
    push(far.path, uri)
    stores = {"near": str(near.path), "far": uri}
    with make_cluster(by=None, stores=stores, cache=tmp_path / "cache") as cluster:
        assert cluster.verify().ok
        assert len(cluster) == 5
        far.ingest(rows)
        assert len(cluster) == 5
        push(far.path, uri)
        assert len(cluster) == 9
        assert cluster.verify().ok
        assert [path.suffix for path in (tmp_path / "cache").iterdir()].count(".osc") == 1
        (tmp_path / "bucket" / "far.osc" / "CURRENT").unlink()
        report = cluster.verify()
        assert [p.partition(":")[0] for p in report.problems] == ["far"]
