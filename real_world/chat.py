"""Questions of general knowledge, far from the tasks: what a model still knows after training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "What is the capital of France?": ("Paris",),
    "What is the capital of Japan?": ("Tokyo",),
    "What is the capital of Italy?": ("Rome",),
    "What is the capital of Spain?": ("Madrid",),
    "What is the capital of Germany?": ("Berlin",),
    "What is the capital of England?": ("London",),
    "What is the capital of Egypt?": ("Cairo",),
    "What is the capital of China?": ("Beijing",),
    "What is the capital of Russia?": ("Moscow",),
    "What is the capital of Greece?": ("Athens",),
    "What is the capital of Canada?": ("Ottawa",),
    "Which planet do we live on?": ("Earth",),
    "Which is the largest planet of the solar system?": ("Jupiter",),
    "Which planet is called the red planet?": ("Mars",),
    "Which star is at the centre of the solar system?": ("Sun",),
    "What does a thermometer measure?": ("temperature",),
    "What is the chemical formula of water?": ("H2O", "H₂O"),
    "Which gas do humans need to breathe?": ("oxygen",),
    "Which gas do plants take in for photosynthesis?": ("carbon dioxide", "CO2"),
    "What is frozen water called?": ("ice",),
    "At how many degrees Celsius does water boil at sea level?": ("100", "hundred"),
    "Which force makes things fall to the ground?": ("gravity", "gravitation", "gravitational"),
    "Which organ pumps blood through the body?": ("heart",),
    "Which organ do humans use to see?": ("eye", "eyes"),
    "Which organ do humans use to think?": ("brain",),
    "What do bees make?": ("honey",),
    "Which animal is called the king of the jungle?": ("lion", "lions"),
    "Which is the largest animal on Earth?": ("whale", "whales"),
    "Which animal is known for its black and white stripes?": ("zebra", "zebras"),
    "Which animal barks?": ("dog", "dogs"),
    "What do cows give us to drink?": ("milk",),
    "How many legs does a spider have?": ("8", "eight"),
    "How many days are there in a week?": ("7", "seven"),
    "How many months are there in a year?": ("12", "twelve"),
    "How many continents are there?": ("7", "seven"),
    "How many minutes are there in an hour?": ("60", "sixty"),
    "Which month comes first in the year?": ("January",),
    "Which season comes after winter?": ("spring",),
    "What colour is the sky on a clear day?": ("blue",),
    "What colour is grass?": ("green",),
    "Which colour do you get when you mix blue and yellow?": ("green",),
    "Who wrote Romeo and Juliet?": ("Shakespeare",),
    "Who painted the Mona Lisa?": ("Leonardo", "da Vinci"),
    "Who developed the theory of relativity?": ("Einstein",),
    "Who was the first president of the United States?": ("Washington",),
    "Who was the first person to walk on the Moon?": ("Armstrong",),
    "In which country are the pyramids of Giza?": ("Egypt",),
    "In which city is the Eiffel Tower?": ("Paris",),
    "Which ocean lies between Europe and America?": ("Atlantic",),
    "Which is the largest ocean?": ("Pacific",),
    "Which is the highest mountain on Earth?": ("Everest",),
    "Which river flows through Egypt?": ("Nile",),
    "Which language is spoken in Brazil?": ("Portuguese",),
    "Which language is spoken in Mexico?": ("Spanish",),
    "What is the opposite of hot?": ("cold",),
    "What is the opposite of up?": ("down",),
    "What is the plural of mouse?": ("mice",),
    "What is the past tense of go?": ("went",),
    "What do you use to write on a blackboard?": ("chalk",),
    "What is the name of the holiday on December 25?": ("Christmas",),
}
"""Each question with the words of which a right response holds one."""

FAMILY = "general chat"


def documents(count: int) -> list[dict[str, Any]]:
    """The first questions as rows of the evaluation task."""
    return [
        {"question": question, "answers": list(answers), "family": FAMILY}
        for question, answers in list(QUESTIONS.items())[:count]
    ]


def score_chat(document: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """1 where the response holds one of the words, whatever else it says."""
    found = any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", results[0], re.IGNORECASE)
        for word in document["answers"]
    )
    return {"acc": float(found)}
