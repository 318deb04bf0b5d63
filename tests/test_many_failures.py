"""A store that is missing, damaged or slow is left out and named; the others answer."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from threading import Event

import pytest
from many_stores import Watched, failing, fill, hanging, make_rows, seconds_of

import oscillink_store as osc
from oscillink_store.errors import NotAStoreError, UnansweredError

ROWS = make_rows(18, seed=2)
QUESTION = "word3 word9 Topic 4 word5"
# so that a source is in store 1
PSI = next(row["vector"] for row in ROWS if row["sequence"] == "s4" and row["gate"] == 1.0)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failures")
    for at in range(3):
        fill(folder / f"{at}.osc", [row for row in ROWS if int(row["sequence"][1:]) % 3 == at])
    return folder


@pytest.fixture
def paths(filled: Path, tmp_path: Path) -> list[Path]:
    """Three stores of one's own, to be damaged."""
    shutil.copytree(filled, tmp_path / "stores")
    return sorted((tmp_path / "stores").glob("*.osc"))


@pytest.fixture
def event() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


def left_out(result: osc.ManyResult, name: str = "1.osc") -> str:
    """That one store alone was left out; why."""
    assert [left.store for left in result.missing] == [name]
    assert not result.complete
    assert result.verify()
    assert {hit.store for hit in result} <= {"0.osc", "2.osc"}
    content = result.receipt.content
    assert [part["name"] for part in content["stores"]] == ["0.osc", "2.osc"]
    (told,) = content["missing"]
    left = result.missing[0]
    assert told == {
        "name": name, "place": int(name[0]), "round": left.round, "generation": left.generation,
        "error": left.error, "reason": left.reason,
    }  # fmt: skip
    return left.reason


def without(paths: list[Path]) -> list[tuple[str, str, float]]:
    """The answer of the other two."""
    with osc.connect_many([paths[0], paths[2]]) as others:
        return [(hit.store, hit.id, hit.score) for hit in others.search(QUESTION, k=20)]


class TestMissing:
    def test_a_folder_that_is_not_there(self, paths: list[Path]) -> None:
        shutil.rmtree(paths[1])
        with osc.connect_many(paths) as many:
            result = many.search(QUESTION, k=20)
            assert "holds no store" in left_out(result)
            assert [(hit.store, hit.id, hit.score) for hit in result] == without(paths)
            assert not paths[1].exists()
            assert many.replay(result).ok
            assert "1.osc: " in many.verify().problems[0]
            assert list(many.stats()["missing"]) == ["1.osc"]
            with pytest.raises(UnansweredError, match=r"1\.osc: .*use stats\(\)"):
                len(many)

    def test_it_comes_back(self, paths: list[Path]) -> None:
        with osc.connect_many(paths) as many:
            assert many.search(QUESTION).complete
            paths[1].rename(paths[1].with_suffix(".away"))
            assert not many.search(QUESTION).complete
            paths[1].with_suffix(".away").rename(paths[1])
            assert many.search(QUESTION).complete

    def test_a_damaged_store(self, paths: list[Path]) -> None:
        segment = max(paths[1].glob("segments/*/*"), key=lambda path: path.stat().st_size)
        content = bytearray(segment.read_bytes())
        content[100] ^= 1
        segment.write_bytes(content)
        with osc.connect_many(paths) as many:
            result = many.search(QUESTION, k=20)
            # an older generation, which a single store would have warned about, is no stand-in
            assert "its checksum differs" in left_out(result)
            assert result.missing[0].error == "IntegrityError"
            assert [(hit.store, hit.id, hit.score) for hit in result] == without(paths)
            report = many.verify()
            assert not report.ok
            assert all(problem.startswith("1.osc: ") for problem in report.problems)

    def test_a_folder_that_cannot_be_written(self, paths: list[Path]) -> None:
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        paths[1].chmod(0o500)
        with osc.connect_many(paths) as many:
            assert "cannot be written" in left_out(many.search(QUESTION))
        with osc.connect_many(paths, read_only=True) as many:
            assert many.search(QUESTION).complete

    def test_a_column_that_one_store_lacks(self, paths: list[Path]) -> None:
        with osc.connect(paths[0]) as store:
            store.ingest([{**ROWS[0], "id": "new", "extra": 3}])
        with osc.connect_many(paths) as many:
            result = many.search(QUESTION, where="extra = 3")
        assert result.ids == ["new"]
        assert [left.store for left in result.missing] == ["1.osc", "2.osc"]
        assert {left.error for left in result.missing} == {"QueryError"}

    def test_a_minimal_receipt_does_not_quote_the_question(self, paths: list[Path]) -> None:
        with osc.connect(paths[0]) as store:
            store.ingest([{**ROWS[0], "id": "new", "extra": 3}])
        with osc.connect_many(paths, payload="minimal") as many:
            result = many.search("a secret", where="extra = 3")
        assert "extra" in result.missing[0].reason
        assert result.receipt.content["missing"][0]["reason"] is None
        assert "extra" not in result.receipt.to_json()
        assert "secret" not in result.receipt.to_json()

    def test_without_any_there_is_one_clear_error(self, paths: list[Path]) -> None:
        for path in paths:
            shutil.rmtree(path)
        with osc.connect_many(paths) as many:
            with pytest.raises(UnansweredError, match=r"none of the 3 stores answered: 0\.osc: "):
                many.search(QUESTION)
            assert len(many.verify().problems) == 3
        with osc.connect_many(paths[:1]) as alone:
            with pytest.raises(NotAStoreError, match="holds no store"):
                alone.search(QUESTION)


class TestRounds:
    """Failures of a store in the midst of a search."""

    @pytest.mark.parametrize("task", ["survey", "gather_part", "spread_part", "settle_part"])
    @pytest.mark.parametrize("ranking", ["lattice", "mmr", "text"])
    def test_a_store_that_fails_in_a_round(self, filled: Path, task: str, ranking: str) -> None:
        paths = sorted(filled.glob("*.osc"))
        vector = None if ranking == "text" else PSI
        with osc.connect_many(paths) as whole:
            best = whole.search(QUESTION, vector=vector, k=20, ranking=ranking)
        executor = Watched(failing(task, "1.osc"))
        with osc.connect_many(paths, executor=executor) as many:
            result = many.search(QUESTION, vector=vector, k=20, ranking=ranking)
            if task == "spread_part" and ranking != "lattice":
                assert result.complete
                return
            assert left_out(result) == "the disk under 1.osc is gone"
        executor.shutdown()
        assert len(result) == min(20, len(result.parts["0.osc"].candidate_ids) + len(
            result.parts["2.osc"].candidate_ids))  # fmt: skip
        left = result.missing[0]
        assert left.round == task.removesuffix("_part")
        assert (left.generation is None) == (task == "survey")
        surveyed = {"survey": 2}.get(task, 3)
        assert {part.content["part"]["stores"] for part in result.parts.values()} == {surveyed}
        # what it had counted stays in the statistics, and what it would have shown is gone
        total = result.receipt.content["statistics"] or {"anchors": None}
        if ranking != "mmr":
            assert total["anchors"] == sum(
                len([row for row in ROWS if int(row["sequence"][1:]) % 3 == at])
                for at in ((0, 2) if task == "survey" else (0, 1, 2))
            )
        if task == "settle_part" and ranking != "mmr":
            others = [(hit.store, hit.id, hit.score) for hit in best if hit.store != "1.osc"]
            told = [(hit.store, hit.id, hit.score) for hit in result]
            assert told[: len(others)] == others
        with osc.connect_many(paths) as again:
            report = again.replay(result)
            assert report.ok, str(report)

    def test_two_of_three_fail_one_after_the_other(self, filled: Path) -> None:
        paths = sorted(filled.glob("*.osc"))

        def upon(task: str, folder: str) -> None:
            failing("spread_part", "1.osc")(task, folder)
            failing("settle_part", "0.osc")(task, folder)

        executor = Watched(upon)
        with osc.connect_many(paths, executor=executor) as many:
            result = many.search(QUESTION, vector=PSI, k=5)
            assert [(left.store, left.round) for left in result.missing] == [
                ("0.osc", "settle"), ("1.osc", "spread")
            ]  # fmt: skip
            assert {hit.store for hit in result} == {"2.osc"}
            assert result.verify()
        executor.shutdown()
        executor = Watched(failing("gather_part", "0.osc", "1.osc", "2.osc"))
        with osc.connect_many(paths, executor=executor) as many:
            with pytest.raises(UnansweredError, match="none of the 3 stores"):
                many.search(QUESTION)
        executor.shutdown()

    @pytest.mark.parametrize("task", ["survey", "gather_part", "spread_part", "settle_part"])
    def test_a_store_that_hangs_in_a_round(self, filled: Path, task: str, event: Event) -> None:
        paths = sorted(filled.glob("*.osc"))
        executor = Watched(hanging(task, "1.osc", event))
        with osc.connect_many(paths, executor=executor, timeout=1.0) as many:
            seconds, result = seconds_of(lambda: many.search(QUESTION, vector=PSI, k=5))
            assert seconds < 1.0
            assert left_out(result) == "it did not answer in time, of 1 s in all"
            assert len(result) == 5
            if task == "survey":
                # while it hangs nothing waits for it, and no thread more
                seconds, result = seconds_of(lambda: many.search(QUESTION))
                assert seconds < 0.4
                assert left_out(result) == "it has not answered an earlier question yet"
            event.set()
            for _ in range(100):
                result = many.search(QUESTION)
                if result.complete:
                    break
            assert result.complete
        executor.shutdown()

    def test_a_store_that_is_merely_late_is_waited_for(self, filled: Path) -> None:
        """One short limit does not spoil the search after it."""
        late = iter([True])

        def upon(task: str, folder: str) -> None:
            if folder == "1.osc" and next(late, False):
                time.sleep(0.5)

        executor = Watched(upon)
        with osc.connect_many(sorted(filled.glob("*.osc")), executor=executor) as many:
            left_out(many.search(QUESTION, timeout=0.4))
            assert many.search(QUESTION, timeout=30.0).complete
        executor.shutdown()

    def test_a_search_may_have_its_own_limit(self, filled: Path, event: Event) -> None:
        paths = sorted(filled.glob("*.osc"))
        with osc.connect_many(paths, executor=Watched(hanging("survey", "1.osc", event))) as many:
            seconds, result = seconds_of(lambda: many.search(QUESTION, timeout=0.6))
            assert seconds < 0.6
            assert left_out(result) == "it did not answer in time, of 0.6 s in all"
            event.set()


def test_a_store_whose_files_do_not_answer(paths: list[Path]) -> None:
    # as on a file system that has gone away: nobody writes into the pipe
    (paths[1] / "CURRENT").unlink()
    os.mkfifo(paths[1] / "CURRENT")
    with osc.connect_many(paths, timeout=1.0) as many:
        seconds, result = seconds_of(lambda: many.search(QUESTION, k=20))
        assert seconds < 1.0
        assert left_out(result).startswith("it did not answer in time")
        assert [(hit.store, hit.id, hit.score) for hit in result] == without(paths)
        with (paths[1] / "CURRENT").open("w"):
            pass  # which ends the wait


def test_a_worker_that_is_killed(filled: Path) -> None:
    paths = sorted(filled.glob("*.osc"))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        with osc.connect_many(paths, executor=executor) as many:
            assert many.search(QUESTION).complete
            worker = executor.submit(os.getpid).result()
            busy = executor.submit(time.sleep, 10)
            os.kill(worker, signal.SIGKILL)
            wait([busy])  # until the pool has noticed
            with pytest.raises(UnansweredError, match="none of the 3 stores answered"):
                many.search(QUESTION)
