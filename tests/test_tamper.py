"""Whatever is done to the ledger or to a manifest, a verification tells of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import oscillink_store as osc
from oscillink_store.engine import fold
from oscillink_store.engine.verify import verify
from oscillink_store.errors import StoreError
from oscillink_store.receipts.chain import Head, extend, verify_chains
from oscillink_store.receipts.entry import entry_of
from oscillink_store.receipts.key import Key
from oscillink_store.receipts.layout import raw_line
from oscillink_store.receipts.receipt import Receipt
from oscillink_store.storage.head_file import read_head
from oscillink_store.storage.manifest import manifest_path, read_manifest
from oscillink_store.storage.tables import VERSION_HINT

KEY = Key(id="audit", secret=b"sixteen bytes or more")
MUTATIONS = int(os.environ.get("OSCILLINK_MUTATIONS", "1200"))
SEEDS = (20, 21)


def rows(start: int, stop: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "text": f"word{i % 7} number {i}"} for i in range(start, stop)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generations on disk, folded receipts, and write-ahead files of three writers."""
    path = tmp_path_factory.mktemp("tamper") / "t.osc"
    vector = [1.0, 2.0, 3.0]
    with osc.connect(path, key=KEY) as store:
        store.ingest([row | {"vector": [i, 1, 2]} for i, row in enumerate(rows(1, 20))])
        store.tag("first")
    for _ in range(fold._LEAST_FILES):
        with osc.connect(path, key=KEY) as store:
            store.search("word1", vector=vector, k=2)
    with osc.connect(path, key=KEY) as store:
        store.ingest([{"id": "new", "text": "word1", "vector": vector}])
        for i in range(4):
            store.search(f"word{i}", vector=vector, k=2, label=f"number {i}")
    with osc.connect(path, key=KEY, payload="minimal") as store:
        store.search("word2", vector=vector, k=2)
        store.ingest([{"id": "newer", "text": "word2", "vector": vector}])
        store.search("word3", vector=vector, k=2)
    report = verify(path, None, {KEY.id: KEY})
    assert report.ok
    assert report.sealed == report.receipts == fold._LEAST_FILES + 9
    return path


def targets(path: Path) -> list[Path]:
    found = [path / "CURRENT", path / "tags" / "first"]
    found += sorted((path / "manifests").iterdir())
    found += sorted((path / "receipts").iterdir())
    found += [item for item in sorted((path / "receipts.lance").rglob("*")) if item.is_file()]
    # a hint of Lance's, in which the store puts no trust
    return [item for item in found if item.name != VERSION_HINT and item.stat().st_size]


def bits(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def insertion(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.randbytes(rng.randint(1, 9)) + content[place:]


def removal(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + content[place + rng.randint(1, 9) :]


def truncation(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def digit(content: bytes, rng: random.Random) -> bytes:
    """Another digit in place of one: what stays well-formed most often."""
    places = [place for place, byte in enumerate(content) if 48 <= byte <= 57]
    place = rng.choice(places) if places else 0
    return content[:place] + str(rng.randrange(10)).encode() + content[place + 1 :]


def lines(content: bytes, rng: random.Random) -> bytes:
    whole = content.splitlines(keepends=True)
    one, two = rng.randrange(len(whole)), rng.randrange(len(whole))
    act = rng.randrange(4)
    if act == 0:
        whole[one], whole[two] = whole[two], whole[one]
    elif act == 1:
        del whole[one]
    elif act == 2:
        whole.insert(two, whole[one])
    else:
        whole[one] = whole[one].replace(b'":', b'": ', 1)
    return b"".join(whole)


KINDS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    bits, insertion, removal, truncation, digit, lines,
)  # fmt: skip


def told(path: Path, *, keyed: bool) -> tuple[str, ...]:
    try:
        return verify(path, None, {KEY.id: KEY} if keyed else None).problems
    except StoreError as error:  # CURRENT or what it names: there is nothing to compare with
        return (str(error),)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_mutation_is_found(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    files = targets(path)
    done: Counter[str] = Counter()
    missed = []
    while done.total() < MUTATIONS // len(SEEDS):
        file, kind = rng.choice(files), rng.choice(KINDS)
        whole = file.read_bytes()
        changed = kind(whole, rng)
        if changed == whole:
            continue
        times = file.stat()
        file.write_bytes(changed)
        problems = told(path, keyed=rng.random() < 0.5)
        if not problems:
            missed.append((file.name, kind.__name__, len(whole), len(changed)))
        assert all(len(problem) < 2000 for problem in problems)
        file.write_bytes(whole)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        done[f"{file.parent.name} {kind.__name__}"] += 1
    assert missed == []
    assert len(done) >= 4 * len(KINDS)
    assert told(path, keyed=True) == ()


def test_every_removed_file_is_found(path: Path) -> None:
    for file in targets(path):
        if file.parent.name == "manifests" and file.name != "0000000003.json":
            continue  # as retention leaves no trace of old generations, unless they are tagged
        if file.parent.name == "tags":
            continue
        moved = file.rename(path.parent / "aside")
        assert told(path, keyed=False), file
        moved.rename(file)
    assert told(path, keyed=True) == ()


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(path, tmp_path / "t.osc"))


def wal_of_four(path: Path) -> Path:
    return max((path / "receipts").glob("*.wal"), key=lambda file: file.stat().st_size)


def test_a_cut_end_is_named(copy: Path) -> None:
    file = wal_of_four(copy)
    whole = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:-2]))
    last = Receipt.from_json(whole[-1])
    (problem,) = told(copy, keyed=False)
    assert f"entries {last.sequence - 1} to {last.sequence} of writer {last.writer} are" in problem


def test_a_cut_writer_is_not_folded_away(copy: Path) -> None:
    file = wal_of_four(copy)
    file.write_bytes(b"")
    for _ in range(fold._LEAST_FILES):
        with osc.connect(copy, key=KEY) as store:
            store.search("word1", vector=[1.0, 0.0, 0.0])
    with osc.connect(copy, key=KEY) as store:
        store.ingest([{"id": "late", "text": "word", "vector": [0.0, 1.0, 0.0]}])
        assert store.stats()["folded_receipts"] > fold._LEAST_FILES
    assert file.exists()
    assert any("missing" in problem for problem in told(copy, keyed=True))


def test_a_whole_writer_that_was_removed_is_missed(copy: Path) -> None:
    """Its write-ahead files and its head gone: the checkpoint of the newest manifest knows it."""
    writer = wal_of_four(copy).name.partition(".")[0]
    for file in (copy / "receipts").glob(f"{writer}.*"):
        file.unlink()
    assert any(f"of writer {writer} are missing" in problem for problem in told(copy, keyed=False))


def forge(line: bytes, content: dict[str, Any], key: Key | None) -> bytes:
    """The line that somebody would write in place of another one, hashes and all."""
    old = Receipt.from_json(line)
    head = Head(sequence=old.sequence - 1, hash=old.previous)
    return extend(head, content, writer=old.writer, time=old.time, key=key)[1]


@pytest.mark.parametrize("key", [None, Key(id="audit", secret=b"a guess of sixteen bytes")])
def test_a_forged_tail_is_named(copy: Path, key: Key | None) -> None:
    file = wal_of_four(copy)
    whole = file.read_bytes().splitlines()
    whole[-1] = forge(whole[-1], {"kind": "search", "results": ["forged"]}, key)
    file.write_bytes(b"\n".join(whole) + b"\n")
    sequence = Receipt.from_json(whole[-1]).sequence
    for keyed in (False, True):
        problems = told(copy, keyed=keyed)
        assert any(f"entry {sequence} of writer" in problem for problem in problems)
        assert any("is not the one that the store recorded" in problem for problem in problems)
    wanted = "has no mac, unlike those before it" if key is None else "the entry is forged"
    assert any(wanted in problem for problem in told(copy, keyed=True))


def test_a_wrong_key_is_told_from_a_missing_one(copy: Path) -> None:
    wrong = Key(id="audit", secret=b"not the one it was sealed with")
    other = Key(id="other", secret=KEY.secret)
    report = verify(copy, None, {wrong.id: wrong})
    assert all("is not that of key 'audit'" in problem for problem in report.problems)
    assert len(report.problems) >= report.receipts
    report = verify(copy, None, {other.id: other})
    assert all("sealed with key 'audit', which is not given" in text for text in report.problems)
    report = verify(copy, None, None)
    assert report.ok
    assert (report.sealed, report.unchecked, report.unsealed) == (0, report.receipts, 0)
    assert verify(copy, None, {wrong.id: KEY, other.id: other}).problems == ()


def test_another_manifest_of_an_older_generation_is_found(copy: Path) -> None:
    """Well-formed, with a checksum of its own: its child, or the receipt of its ingest, knows."""
    older = read_manifest(copy, 1)
    changed = osc.Parameters(sources=9).to_dict()
    file = manifest_path(copy, 1)
    forged = {**older.__dict__, "parameters": changed}
    forged.pop("sha256", None)
    file.write_bytes(type(older)(**forged).to_bytes())
    (problem,) = told(copy, keyed=False)
    assert "0000000001.json is not the manifest that was written" in problem


HOSTILE = st.one_of(
    st.binary(max_size=300),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["content", "content_hash", "hash", "key_id", "label", "mac", "must_understand",
                 "payload", "previous", "seconds", "sequence", "time", "version", "writer", "kind"]
            ),
            inner,
            max_size=16,
        ),
        max_leaves=30,
    ).map(lambda value: json.dumps(value).encode()),
)  # fmt: skip


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(HOSTILE, max_size=4), st.booleans(), st.sampled_from(["wal", "head"]))
def test_hostile_bytes_never_crash_a_verification(
    path: Path, pieces: list[bytes], between: bool, kind: str
) -> None:
    file = wal_of_four(path) if kind == "wal" else next((path / "receipts").glob("*.head"))
    whole = file.read_bytes()
    joined = b"\n".join(pieces)
    try:
        file.write_bytes(whole + joined + b"\n" if between else joined)
        if file.read_bytes() != whole:
            assert told(path, keyed=True)
    finally:
        file.write_bytes(whole)


@given(HOSTILE)
def test_hostile_lines_are_refused_one_by_one(line: bytes) -> None:
    assert raw_line(line) is None
    try:
        entry_of(line)
    except StoreError:
        return
    raise AssertionError(line)


@given(st.binary(max_size=600))
def test_hostile_heads_are_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    file = tmp_path_factory.mktemp("head") / "w.head"
    file.write_bytes(raw)
    assert read_head(file).problem is not None


def test_memory_is_bounded_by_the_largest_file(copy: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from oscillink_store.engine.verify import verify
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = verify(Path(sys.argv[1]))
assert report.ok, report.problems[:2]
print(report.receipts, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    filler = """
import sys
from pathlib import Path
from oscillink_store.storage import wal
wal.ROTATE_BYTES = 1 << 20
with wal.Ledger(Path(sys.argv[1])) as ledger:
    for n in range(20_000):
        ledger.record({"kind": "search", "n": n, "filler": "x" * 2000})
"""
    subprocess.run([sys.executable, "-c", filler, copy / "receipts"], check=True)
    assert sum(file.stat().st_size for file in (copy / "receipts").glob("*.wal")) > 45 << 20
    done = subprocess.run(
        [sys.executable, "-c", program, copy], check=True, capture_output=True, text=True
    )
    receipts, megabytes = map(int, done.stdout.split())
    assert receipts > 20_000
    assert megabytes < 45


def test_chains_say_what_was_sealed() -> None:
    first, _ = extend(Head(), {"n": 1}, writer="w", key=KEY)
    second, _ = extend(Head(sequence=1, hash=first.hash), {"n": 2}, writer="w")
    report = verify_chains([first, second], keys={KEY.id: KEY})
    assert [(problem.sequence, problem.fault) for problem in report.problems] == [(2, "unsealed")]
    assert verify_chains([first, second]).ok
