"""The built-in lexical embedder: the same bits everywhere, and what it can and cannot find."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import random
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscillink_store.embed import hashing
from oscillink_store.embed.hashing import HashEmbedder

HASH = HashEmbedder()
SAMPLE = [
    "The Collegian was owned by Houston Baptist University.",
    "the the the the cat",
    "naïve Ünïcode Straße ﬁn",
    "東京都に住んでいます",
    "snake_case and camelCase 12345",
    "!!! ??? ...",
    "",
    "x " * 1000,
    "a" * 500,
]
MODULES = (
    "argparse", "array", "asyncio.events", "base64", "calendar", "cmd", "codecs", "collections",
    "concurrent.futures", "configparser", "contextlib", "copy", "csv", "datetime", "decimal",
    "difflib", "doctest", "email.message", "fractions", "functools", "getopt", "gettext", "glob",
    "gzip", "hashlib", "heapq", "html", "http.client", "http.cookiejar", "inspect", "ipaddress",
    "itertools", "json", "locale", "logging", "logging.handlers", "mailbox", "math", "mimetypes",
    "operator", "optparse", "os", "pathlib", "pdb", "pickle", "pickletools", "platform", "plistlib",
    "pprint", "queue", "random", "sched", "secrets", "selectors", "shelve", "shlex", "shutil",
    "signal", "smtplib", "socket", "sqlite3", "ssl", "statistics", "string", "struct",
    "subprocess", "sys", "tarfile", "tempfile", "textwrap", "threading", "time", "timeit",
    "tokenize", "trace", "traceback", "unittest.case", "unittest.mock", "urllib.parse",
    "urllib.request", "uuid", "warnings", "wave", "weakref", "xml.dom.minidom",
    "xml.etree.ElementTree", "zipfile",
)  # fmt: skip


def digest(vectors):
    return hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest()


def test_the_bits_of_a_name_never_change():
    # a change here would make every store that was filled with this embedder useless
    assert digest(HASH.embed(SAMPLE))[:32] == "f22973e90065e546bd5982a6d7650a0a"
    assert digest(HashEmbedder(64).embed(SAMPLE))[:32] == "130447143691aae1afd86b6fc928cf00"


@pytest.mark.parametrize("seed", ["0", "1", "4294967295"])
def test_every_process_gives_the_same_bits(seed):
    script = (
        "import sys, hashlib\n"
        "from oscillink_store.embed.hashing import HashEmbedder\n"
        "texts = sys.stdin.buffer.read().decode().split('\\0')\n"
        "print(hashlib.sha256(HashEmbedder().embed(texts).astype('<f4').tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="\0".join(SAMPLE).encode(),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
        timeout=60,
    )
    assert done.stdout.decode().strip() == digest(HASH.embed(SAMPLE))


TEXTS = st.text(st.characters(), max_size=60) | st.lists(
    st.sampled_from(["the", "cat", "Katze", "…", "東京", "\ud800", "ﬁ", "_", "a1"]), max_size=8
).map(" ".join)


@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from([16, 17, 64, 384]))
def test_every_text_has_a_unit_vector_whatever_stands_beside_it(texts, dimension):
    embedder = HashEmbedder(dimension)
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(float), axis=1), 1.0, atol=1e-6)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(embedder.embed_query(text), vector)


def test_features_that_cancel_out_leave_a_unit_vector(monkeypatch):
    # two words that fall on one component with opposite signs
    def features(word):
        return np.array([3 if word == "up" else 3 + (1 << 63)], np.uint64), np.ones(1)

    monkeypatch.setattr(hashing, "_features", features)
    monkeypatch.setattr(hashing, "_PAIR_WEIGHT", 0.0)
    vector = HashEmbedder(16).embed_query("up down")  # 2**63 is a multiple of 16
    assert np.count_nonzero(vector) == 1
    assert np.linalg.norm(vector) == 1.0


def test_no_texts_give_no_rows():
    assert HASH.embed([]).shape == (0, 384)


def test_threads_agree():
    rows = [f"text number {n} of {n % 7} and {n % 13}" for n in range(400)]
    expected = HASH.embed(rows)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(HASH.embed, [rows[at : at + 50] for at in range(0, 400, 50)]))
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def cosine(one, other):
    left, right = HASH.embed([one, other])
    return float(left @ right)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Cat", "the cat"),
        ("STRASSE", "straße"),
        ("ﬁnal", "final"),
        ("cat, dog!", "Cat   dog"),
        ("snake_case", "snake case"),
        ("e\u0301tude", "étude"),
    ],
)
def test_spelling_variants_that_mean_the_same_are_the_same(one, other):
    assert cosine(one, other) == pytest.approx(1.0, abs=1e-6)


def test_nearness_follows_shared_words_and_parts_of_words():
    assert cosine("connection pool", "connection pools") > 0.5
    assert cosine("connection pool", "reconnecting") > cosine("connection pool", "gardening") + 0.1
    assert cosine("the owner of the house", "who owned the house") > 0.5
    # common words alone make no likeness, and word order makes a little difference
    assert abs(cosine("what is the matter with the car", "what is the owner of the sea")) < 0.25
    assert 0.9 < cosine("dog bites man", "man bites dog") < 1.0


def test_scripts_without_spaces_are_found_by_their_parts():
    assert cosine("東京", "東京都に住んでいます") > 0.2
    assert cosine("東京", "大阪府に住んでいます") < 0.1
    assert cosine("서울에서", "서울에 살고 있습니다") > 0.3
    assert cosine("서울에서", "부산에 살고 있습니다") < 0.1
    assert cosine("pythonで書く", "python code") > 0.3


def test_punctuation_has_vectors_of_its_own():
    assert cosine("!!!", "!!!") == pytest.approx(1.0)
    assert cosine("!!!", "???") < 0.5
    assert cosine("", " \n\t") == pytest.approx(1.0)


def test_ten_megabytes_are_one_text_like_any_other():
    long = "lorem ipsum dolor " * 300_000 + "q" * 5_000_000
    vector = HASH.embed_query(long)
    assert np.isfinite(vector).all()
    assert HASH.embed_query("ipsum dolor lorem") @ vector > 0.8


def paragraphs():
    """Collect the distinct paragraphs, of 8 words or more, of the library's docstrings."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        members = [module]
        for _, member in sorted(vars(module).items()):
            if getattr(member, "__module__", None) == name:
                members.append(member)
                if inspect.isclass(member):
                    members += [value for _, value in sorted(vars(member).items())]
        for member in members:
            for text in (inspect.getdoc(member) or "").split("\n\n"):
                if len(set(re.findall(r"\w+", text.lower()))) >= 8:
                    found.setdefault(text)
    return list(found)


def test_words_of_a_docstring_find_it_among_those_of_the_standard_library():
    texts = paragraphs()
    assert len(texts) > 2000
    corpus = HASH.embed(texts)
    chosen = random.Random(7)
    targets = chosen.sample(range(len(texts)), 400)
    queries = []
    for target in targets:
        words = list(dict.fromkeys(re.findall(r"\w+", texts[target].lower())))
        queries.append(" ".join(chosen.sample(words, 6)))
    scores = HASH.embed(queries) @ corpus.T
    ranks = (scores > scores[np.arange(400), targets][:, None]).sum(axis=1)
    # measured on Python 3.11, for several seeds: 80 % come first, 95 % among the first ten
    assert (ranks < 1).mean() >= 0.75
    assert (ranks < 10).mean() >= 0.92
