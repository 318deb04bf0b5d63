"""A LangGraph agent whose memory outlives its process.

The agent stores what it is told and answers from what it finds by meaning. It runs three times,
each time in a new process over the same folder: Ann tells it things, Ben does, then each asks.
The "model" is a few lines of rules, and the embedder is built in: nothing is downloaded.

pip install langgraph
python examples/langgraph_memory.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from oscillink_store.integrations.langgraph import OscillinkStore

INDEX = {"embed": "hash", "fields": ["text"]}

SESSIONS = {
    "ann tells": [
        ("ann", "My sister Clara lives in Lisbon."),
        ("ann", "I cannot eat peanuts, they make me ill."),
        ("ann", "The spare key is under the blue flower pot."),
    ],
    "ben tells": [("ben", "The spare key is in the letter box.")],
    "both ask": [
        ("ann", "Where is the spare key?"),
        ("ben", "Where is the spare key?"),
        ("ann", "Which city does my sister live in?"),
        ("ben", "Which city does my sister live in?"),
    ],
}


class User(TypedDict):
    """Who is talking."""

    name: str


def text_of(message: AnyMessage) -> str:
    return str(message.content)


def route(state: MessagesState) -> str:
    """What a model would decide: a question is answered, a statement remembered."""
    return "recall" if text_of(state["messages"][-1]).endswith("?") else "remember"


def remember(state: MessagesState, runtime: Runtime[User]) -> dict[str, list[AnyMessage]]:
    assert runtime.store is not None
    value = {"text": text_of(state["messages"][-1])}
    runtime.store.put(("memories", runtime.context["name"]), str(uuid.uuid4()), value)
    return {"messages": [AIMessage("I will remember that.")]}


def recall(state: MessagesState, runtime: Runtime[User]) -> dict[str, list[AnyMessage]]:
    assert runtime.store is not None
    question = text_of(state["messages"][-1])
    found = runtime.store.search(("memories", runtime.context["name"]), query=question, limit=1)
    known = found and found[0].score is not None and found[0].score > 0.15
    return {"messages": [AIMessage(f"You told me: {found[0].value['text']}" if known
                                   else "You never told me.")]}  # fmt: skip


def session(folder: str, name: str) -> None:
    """One life of the agent."""
    builder = StateGraph(MessagesState, context_schema=User)
    builder.add_node("remember", remember)
    builder.add_node("recall", recall)
    builder.add_conditional_edges(START, route, ["remember", "recall"])
    builder.add_edge("remember", END)
    builder.add_edge("recall", END)
    with OscillinkStore.from_conn_string(folder, index=INDEX) as store:
        agent = builder.compile(store=store)
        for user, text in SESSIONS[name]:
            state = agent.invoke({"messages": [HumanMessage(text)]}, context={"name": user})
            print(f"{user}: {text}\n     {text_of(state['messages'][-1])}")


def main() -> None:
    if len(sys.argv) == 3:
        session(*sys.argv[1:])
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in SESSIONS:
            print(f"\n-- {name}, in a new process", flush=True)
            memory = str(Path(folder) / "memory.osc")
            subprocess.run([sys.executable, __file__, memory, name], check=True)


if __name__ == "__main__":
    main()
