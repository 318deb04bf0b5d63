"""Animals for the adapters' compliance suite, which asks for them by name and by trait."""

from __future__ import annotations

from typing import Any

Animal = tuple[str, str, dict[str, Any]]


def animal(name: str, text: str, kind: str, legs: int, *keywords: str, **more: Any) -> Animal:
    """An animal's id, text and metadata."""
    about = {"type": kind, "number_of_legs": legs, "keywords": list(keywords), **more}
    return name, text, about


ANIMALS: list[Animal] = [
    animal("aardvark", "An aardvark digs at night and licks up termites.", "mammal", 4, "termites",
           tags=[{"a": 5, "b": 7}, {"a": 8, "b": 10}]),
    animal("albatross", "An albatross sails over the open sea for days.", "bird", 2, "sea",
           tags=[{"a": 5, "b": 8}, {"a": 8, "b": 10}]),
    animal("alligator", "An alligator waits for prey that is hunted from the water.", "reptile", 4,
           "swamp", diet="carnivorous", nested={"a": 5}),
    animal("alpaca", "Alpacas, domesticated long ago, give wool and are friendly in a herd.",
           "mammal", 4, "wool", nested={"a": 5}),
    animal("ant", "Ants build a nest together.", "insect", 6, "nest", nested={"a": 6}),
    animal("anteater", "An anteater has a tongue as long as an arm.", "mammal", 4, "tongue",
           nested={"b": 5}),
    animal("antelope", "An antelope flees over the plain.", "mammal", 4, "plain"),
    animal("barracuda", "A barracuda shoots at whatever glitters.", "fish", 0, "teeth"),
    animal("boar", "A boar roots for acorns.", "mammal", 4, "acorns", diet="omnivorous"),
    animal("cat", "Cats are domesticated hunters.", "mammal", 4, "hunting", "purring",
           diet="carnivorous"),
    animal("chameleon", "A chameleon, hunting, turns one eye at a time.", "reptile", 4, "colour"),
    animal("chicken", "Chickens are domesticated for eggs and meat.", "bird", 2, "eggs"),
    animal("chinchilla", "A chinchilla has the densest fur.", "mammal", 4, "fur", "andes"),
    animal("cobra", "A cobra spreads its hood, its venom is strong and defensive, it is a snake.",
           "reptile", 0, "hood"),
    animal("crab", "A crab walks to the side.", "crustacean", 8, "pincers"),
    animal("crocodile", "A crocodile hunts at dusk.", "reptile", 4, "river"),
    animal("dingo", "A dingo is no longer anybody's dog.", "mammal", 4, "outback",
           diet="carnivorous"),
    animal("dog", "Dogs are domesticated and loyal.", "mammal", 4, "company", diet="omnivorous"),
    animal("dolphin", "A dolphin knows others by their whistle.", "mammal", 0, "whistle"),
    animal("eel", "An eel crosses an ocean once.", "fish", 0, "ocean"),
    animal("ferret", "A ferret follows rabbits into their holes.", "mammal", 4, "burrow",
           diet="carnivorous"),
    animal("fish", "A fish breathes water.", "fish", 0, "fins"),
    animal("gecko", "A gecko hunts on the ceiling.", "reptile", 4, "ceiling"),
    animal("horse", "Horses were domesticated to carry us.", "mammal", 4, "riding"),
    animal("iguana", "An iguana eats leaves and suns itself on strong branches of tall trees.",
           "reptile", 4, "leaves"),
    animal("jellyfish", "A jellyfish drifts and stings.", "jellyfish", 0, "drift"),
    animal("komodo dragon", "A Komodo dragon hunts deer.", "reptile", 4, "island"),
    animal("lizard", "A lizard sheds its tail to survive, and small ones climb for food.",
           "reptile", 4, "tail"),
    animal("manatee", "A manatee grazes under water.", "mammal", 0, "grazing"),
    animal("narwhal", "A narwhal's tusk is a tooth.", "mammal", 0, "tusk"),
]  # fmt: skip
