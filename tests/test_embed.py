"""Embedders of every kind: callables, LangChain, LlamaIndex, models, names, and misfits."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from llama_index.core import MockEmbedding
from llama_index.core.embeddings import BaseEmbedding

from oscillink_store.embed.hashing import HashEmbedder
from oscillink_store.embed.protocol import Embedder, as_vectors
from oscillink_store.embed.resolve import resolve
from oscillink_store.errors import DependencyError, EmbedderError

TEXTS = ["one", "two two", "three"]


def lengths(texts):
    return [[len(text), text.count(" "), 1.0] for text in texts]


class Prefixing(Embeddings):
    """A LangChain embedding whose queries differ from its documents."""

    model = "tiny-1"

    def embed_documents(self, texts):
        return lengths([f"doc {text}" for text in texts])

    def embed_query(self, text):
        return lengths([f"query: {text}"])[0]


class Counting(BaseEmbedding):
    """A LlamaIndex embedding whose queries differ from its documents."""

    def _get_text_embedding(self, text):
        return lengths([text])[0]

    def _get_query_embedding(self, query):
        return lengths([query + "?"])[0]

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


class Encoder:
    """The methods of a sentence model that tells queries from documents."""

    def encode(self, texts):
        raise AssertionError

    def encode_document(self, texts):
        return np.array(lengths(texts), np.float64)

    def encode_query(self, texts):
        return np.array(lengths([text + "?" for text in texts]), np.float64)


class Whole:
    """Everything that the protocol asks for."""

    name = "whole-1"
    dimension = 3

    def embed(self, texts):
        return np.array(lengths(texts))

    def embed_query(self, text):
        return np.array(lengths([text + "!"])[0])


class Streaming:
    """Only ``embed``, and that gives the vectors one by one."""

    model_name = "stream-1"

    def embed(self, texts):
        return (np.array(vector) for vector in lengths(texts))


def module_function(texts):
    return lengths(texts)


class Calling:
    model = "m1"

    def __call__(self, texts):
        return lengths(texts)

    def run(self, texts):
        return lengths(texts)


def check(embedder, expected=TEXTS):
    """The contract that every embedder meets."""
    assert isinstance(embedder, Embedder)
    vectors = embedder.embed(expected)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(expected), embedder.dimension)
    assert vectors.flags.c_contiguous
    query = embedder.embed_query(expected[0])
    assert query.dtype == np.float32
    assert query.shape == (embedder.dimension,)
    assert embedder.embed([]).shape == (0, embedder.dimension)
    assert isinstance(embedder.name, str)
    return vectors, query


@pytest.mark.parametrize(
    ("spec", "name", "query_length"),
    [
        (module_function, f"{__name__}.module_function", 3),
        (Calling(), f"{__name__}.Calling:m1", 3),
        (Calling().run, "Calling:m1.run", 3),
        (functools.partial(module_function), f"{__name__}.module_function", 3),
        (Prefixing(), "Prefixing:tiny-1", 10),
        (Counting(model_name="count-2"), "Counting:count-2", 4),
        (Counting(), "Counting", 4),
        (Encoder(), "Encoder", 4),
        (Whole(), "whole-1", 4),
        (Streaming(), "Streaming:stream-1", 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_becomes_an_embedder(spec, name, query_length):
    embedder = resolve(spec)
    assert embedder.name == name
    assert embedder.dimension == 3
    vectors, query = check(embedder)
    documents = 4 if isinstance(spec, Prefixing) else 0
    assert vectors[:, 0].tolist() == [len(text) + documents for text in TEXTS]
    assert query[0] == query_length
    assert resolve(embedder) is embedder


def test_langchain_objects_work_as_they_are():
    model = DeterministicFakeEmbedding(size=12)
    embedder = resolve(model)
    vectors, query = check(embedder)
    assert embedder.dimension == 12
    assert embedder.name == "DeterministicFakeEmbedding"
    np.testing.assert_allclose(vectors, model.embed_documents(TEXTS), rtol=1e-6)
    np.testing.assert_allclose(query, model.embed_query("one"), rtol=1e-6)


def test_llama_index_objects_work_as_they_are():
    embedder = resolve(MockEmbedding(embed_dim=7))
    vectors, query = check(embedder, [f"text {n}" for n in range(25)])  # more than its batch of 10
    assert embedder.dimension == 7
    assert (vectors == 0.5).all()
    assert (query == 0.5).all()


def test_a_name_set_by_hand_wins():
    def function(texts):
        return lengths(texts)

    function.name = "mine-2"
    assert resolve(function).name == "mine-2"
    assert resolve(functools.partial(function)).name == "mine-2"


def test_lambdas_of_a_module_share_a_name():
    assert resolve(lambda texts: lengths(texts)).name == (
        f"{__name__}.test_lambdas_of_a_module_share_a_name.<locals>.<lambda>"
    )


NAMED = """
import multiprocessing
from oscillink_store.embed.resolve import resolve

def embed(texts):
    return [[1.0] for _ in texts]

class Model:
    def __call__(self, texts):
        return [[1.0] for _ in texts]

def names(_=None):
    return resolve(embed).name, resolve(Model()).name

if __name__ == "__main__":
    print(*names())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.apply(names))
"""


def test_a_name_is_the_same_in_a_script_in_its_children_and_imported(tmp_path):
    (tmp_path / "my_embedding.py").write_text(NAMED)
    environment = {"PYTHONPATH": str(tmp_path)}
    for arguments in (
        [str(tmp_path / "my_embedding.py")],
        ["-m", "my_embedding"],
        ["-c", "import my_embedding; print(*my_embedding.names())"],
    ):
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            timeout=60,
        )
        lines = set(done.stdout.splitlines())
        assert lines == {"my_embedding.embed my_embedding.Model"}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "NoneType of dtype object"),
        ("vectors", "str of dtype"),
        ([["1.0"], ["2.0"], ["3.0"]], r"list of 3 list of dtype <U3"),
        ([[1.0], [1.0, 2.0], [1.0]], "list of 3 list, which is no array of numbers"),
        ([1.0, 2.0, 3.0], r"shape \(3,\) for 3 texts.*shape \(3, D\)"),
        ([[1.0]], r"shape \(1, 1\) for 3 texts"),
        ([], r"shape \(0,\) for 3 texts"),
        ([[], [], []], r"shape \(3, 0\) for 3 texts"),
        (np.ones((3, 2, 2)), r"shape \(3, 2, 2\) for 3 texts"),
        (np.ones((3, 2), complex), "dtype complex128"),
        (np.ones((3, 2), bool), "dtype bool"),
        ([[1.0, 1.0], [1.0, float("nan")], [1.0, 1.0]], "NaN or an infinite number for text 1 of"),
        ([[1.0, 1.0], [1.0, 1.0], [1.0, float("-inf")]], "infinite number for text 2 of 3"),
        ([[1.0], [1e39], [1.0]], "infinite number for text 1 of 3"),
        ({"data": [1.0]}, "dict of dtype object"),
    ],
)
def test_unusable_output_is_named(output, message):
    def returns(texts):
        return output

    with pytest.raises(EmbedderError, match=message) as caught:
        resolve(returns).embed(TEXTS)
    assert "test_unusable_output_is_named" in str(caught.value)


def test_a_dimension_that_changes_is_refused():
    widths = iter([4, 4, 5])
    embedder = resolve(lambda texts: np.ones((len(texts), next(widths))))
    assert embedder.dimension == 4
    embedder.embed(TEXTS)
    with pytest.raises(EmbedderError, match="dimension 5, expected 4"):
        embedder.embed(TEXTS)


def test_a_stated_dimension_holds_for_documents_and_queries():
    wrong = Whole()
    wrong.dimension = 4
    with pytest.raises(EmbedderError, match=r"'whole-1' returned .* dimension 3, expected 4"):
        resolve(wrong).embed(TEXTS)
    with pytest.raises(EmbedderError, match="dimension 3, expected 4"):
        resolve(wrong).embed_query("one")


def test_what_an_embedder_raises_is_told_in_one_line():
    def breaks(texts):
        raise ConnectionError("no route to host")

    def breaks_later(texts):
        yield [1.0]
        raise ConnectionError("no route to host")

    for function in (breaks, breaks_later):
        with pytest.raises(EmbedderError, match="ConnectionError: no route to host") as caught:
            resolve(function).embed(TEXTS)
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert "a batch of 3 texts" in str(caught.value)


def test_asynchronous_functions_are_refused():
    async def later(texts):
        return lengths(texts)

    with pytest.raises(EmbedderError, match="asynchronous"):
        resolve(later).embed(TEXTS)


@pytest.mark.parametrize("spec", [module_function, "hash"])
def test_texts_must_be_strings(spec):
    embedder = resolve(spec)
    with pytest.raises(EmbedderError, match="given a NoneType as text 1"):
        embedder.embed(["a", None])
    with pytest.raises(EmbedderError, match="given one string"):
        embedder.embed("a text")
    with pytest.raises(EmbedderError, match="given a bytes"):
        embedder.embed_query(b"a text")


@pytest.mark.parametrize(
    "spec",
    ["", "hush", "hash:", "hash:many", "hash:-1", "all-MiniLM-L6-v2", "model2vec:", 7, None, []],
)
def test_what_is_no_embedder_is_refused_with_examples(spec):
    with pytest.raises(EmbedderError, match=r"'hash:512'"):
        resolve(spec)


def test_a_class_is_no_embedder():
    with pytest.raises(EmbedderError, match="class Prefixing: pass an instance"):
        resolve(Prefixing)


@pytest.mark.parametrize("dimension", [0, 15, 65_537])
def test_the_hash_embedders_dimension_is_bounded(dimension):
    with pytest.raises(EmbedderError, match="use 16 to 65536"):
        resolve(f"hash:{dimension}")


def test_names_of_built_in_embedders():
    assert resolve("hash") == HashEmbedder(384)
    assert resolve("hash").name == "hash:384"
    assert resolve("hash:512").dimension == 512
    assert resolve(resolve("hash:512").name) == resolve("hash:512")


@pytest.mark.parametrize(
    ("spec", "package"),
    [
        ("sentence-transformers:all-MiniLM-L6-v2", "sentence_transformers"),
        ("model2vec:minishlab/potion-base-8M", "model2vec"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(spec, package):
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    extra = spec.partition(":")[0]
    with pytest.raises(DependencyError, match=rf"pip install 'oscillink-store\[{extra}\]'"):
        resolve(spec)


def test_a_model2vec_model_is_loaded_by_name_once(tmp_path):
    import model2vec
    import tokenizers

    vocabulary = {"[UNK]": 0, "red": 1, "green": 2, "blue": 3}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = np.eye(4, dtype=np.float32) + 1
    model2vec.StaticModel(vectors, tokenizer).save_pretrained(tmp_path / "model")
    embedder = resolve(f"model2vec:{tmp_path / 'model'}")
    assert embedder.name == f"model2vec:{tmp_path / 'model'}"
    found, query = check(embedder, ["red", "red blue"])
    np.testing.assert_allclose(found[1], (vectors[1] + vectors[3]) / 2)
    np.testing.assert_allclose(query, vectors[1])
    direct = resolve(model2vec.StaticModel.from_pretrained(str(tmp_path / "model")))
    np.testing.assert_array_equal(direct.embed(["red", "red blue"]), found)


def test_a_model_that_cannot_be_loaded_is_an_embedder_error(tmp_path):
    embedder = resolve(f"model2vec:{tmp_path / 'absent'}")
    with pytest.raises(EmbedderError, match=r"model2vec:.* failed on a batch"):
        embedder.embed(TEXTS)


def test_importing_the_embedders_loads_no_framework():
    script = (
        "import sys\n"
        "from oscillink_store.embed.resolve import resolve\n"
        "resolve('hash').embed(['a'])\n"
        "heavy = {'torch', 'langchain_core', 'llama_index', 'sentence_transformers', 'model2vec',"
        " 'scipy', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_dimension_is_found_once_and_only_when_asked_for():
    calls = []

    def function(texts):
        calls.append(list(texts))
        return lengths(texts)

    embedder = resolve(function)
    assert calls == []
    assert embedder.dimension == embedder.dimension == 3
    assert len(calls) == 1
    resolve(function).embed(TEXTS)
    assert calls[1:] == [TEXTS]


def test_queries_may_come_from_several_threads():
    embedder = resolve(Prefixing())
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(embedder.embed_query("x").tolist()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[8.0, 1.0, 1.0]] * 8


@given(
    hnp.arrays(
        st.sampled_from(["f2", "f4", "f8", "i1", "i8", "u4"]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    )
)
def test_numeric_arrays_pass_unchanged_or_are_not_finite(array):
    with np.errstate(over="ignore"):
        expected = array.astype(np.float32)
    if np.isfinite(expected).all():
        np.testing.assert_array_equal(as_vectors("x", array, len(array), None), expected)
        np.testing.assert_array_equal(
            as_vectors("x", array.tolist(), len(array), array.shape[1]), expected
        )
    else:
        with pytest.raises(EmbedderError, match="'x' returned NaN"):
            as_vectors("x", array, len(array), None)
