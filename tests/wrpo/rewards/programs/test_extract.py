"""Which text of a response is the program: any layout gives the program as it is alone."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wrpo.rewards.programs.extract import extract_program
from wrpo.rewards.programs.fences import CodeBlock, fenced_blocks
from wrpo.rewards.programs.names import read_code

FUNCTION = "import math\n\ndef add(a, b):\n\tif a:\n\t\tb += a\n\n\treturn b\n"
WITH_FENCE = (
    "def add(a, b):\n    '''Adds.\n\n```\nadd(1, 2)\n```\n\n```python\n3\n```\n    '''\n"
    "    return a\n"
)
CLASS = "class Solution:\n    def add(self, a, b):\n        return a + b\n"
INPUT = "a, b = map(int, input().split())\nprint(a + b)\n"
FUTURE = "from __future__ import annotations\n\ndef add(a: int, b: int) -> int:\n    return a + b\n"
PROGRAMS = {
    FUNCTION: {"add"},
    WITH_FENCE: {"add"},
    FUTURE: {"add"},
    CLASS: {"Solution"},
    INPUT: set(),
}

TAGS = [
    "", " ", "python", " python", "Python", "PYTHON3", "py", "python3.11", "{python}", "{.python}",
    'python title="add.py"', "python  ", "python {1,2}", "python:add.py", "language-python",
    "add.py",
]  # fmt: skip
INDENTS = ["", "  ", "   ", "     ", "\t", "> ", "> > "]
DRAFTS = ["def add(a, b):\n    return -999\n", "class Solution:\n    pass\n\ninput()\n"]
BEFORE = ["", "Sure.\n\n", "1. Run `pip`:\n```bash\npip install add\n```\n", "```json\n{}\n```\n"]
AFTER = [
    "", "It adds.", "```bash\npython add.py\n```", "Output:\n```\n3\n```", "```text\nadd\n```",
    "```output\nprint(1)\n```", "~~~sh\nadd\n~~~\nDone.",
    "Example:\n\n```python\nprint(add(1, 2))\n```",
    "Example:\n\n```\nfrom adding import add\nassert add(1, 2) == 3, Solution()\n```",
    "The form was:\n```python\ndef add(a, b):\n    '''Adds.'''\n    ...\n```",
]  # fmt: skip


def fence(text: str, *, marks: str, tag: str, indent: str, closed: bool = True) -> str:
    lines = [marks + tag, *text.removesuffix("\n").split("\n"), *([marks] if closed else [])]
    return "\n".join(indent + line for line in lines)


@settings(max_examples=200, deadline=None)
@given(
    program=st.sampled_from(sorted(PROGRAMS)),
    marks=st.sampled_from(["```", "````", "~~~", "~~~~~"]),
    tag=st.sampled_from(TAGS),
    indent=st.sampled_from(INDENTS),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    before=st.sampled_from(BEFORE),
    draft=st.sampled_from(["", *DRAFTS]),
    draft_tag=st.sampled_from(["", "python"]),
    after=st.sampled_from(AFTER),
    closed=st.booleans(),
)
@example(WITH_FENCE, "```", "python", "> ", "\r\n", BEFORE[2], "", "", AFTER[-1], True)
def test_a_program_is_the_same_in_any_layout(
    program: str,
    marks: str,
    tag: str,
    indent: str,
    line_end: str,
    before: str,
    draft: str,
    draft_tag: str,
    after: str,
    closed: bool,
) -> None:
    parts = [before]
    if draft:
        parts += ["A draft:", fence(draft, marks="```", tag=draft_tag, indent=""), "Better:"]
    closed = closed or bool(after)
    parts += [fence(program, marks=marks, tag=tag, indent=indent, closed=closed)]
    if after:
        parts += ["", after]
    response = "\n".join(parts).replace("\n", line_end)
    assert extract_program(response, PROGRAMS[program]).strip() == program.strip()


@pytest.mark.parametrize("program", sorted(PROGRAMS))
@pytest.mark.parametrize("space", ["", " ", "    ", "\n\n"])
def test_a_response_may_be_the_program_alone(program: str, space: str) -> None:
    assert extract_program(space + program, PROGRAMS[program]).strip() == program.strip()


@pytest.mark.parametrize("program", [FUNCTION, CLASS, INPUT, FUTURE])
def test_a_program_may_be_an_indented_block(program: str) -> None:
    behind = "".join(f"    {line}\n" for line in program.splitlines())
    said = f"Here:\n\n{behind}\nIt adds."
    assert read_code(extract_program(said, PROGRAMS[program])) == read_code(program)


HELPER = "def double(x):\n    return 2 * x\n"
USER = "def add(a, b):\n    return double(a) + b\n"


@pytest.mark.parametrize(
    ("blocks", "wanted", "expected"),
    [
        ([HELPER, USER], {"add"}, [0, 1]),  # earlier blocks that define what later ones need
        ([USER, HELPER], {"add"}, [0, 1]),  # and, for want of these, later ones
        ([HELPER, "def half(x):\n    return x / 2\n", USER], {"add"}, [0, 2]),
        (["import math\n", "def add(a, b):\n    return math.fsum([a, b])\n"], {"add"}, [0, 1]),
        ([HELPER, USER], {"add", "double"}, [0, 1]),
        (["from math import gcd as add\n", "print(add(1, 2))\n"], {"add"}, [0]),
        (["def main():\n    print(input())\n", "main()\n"], set(), [0, 1]),
        (["print(input())\n", "print(add(1, 2))\n"], set(), [0]),
        (["print(1)\n", "print(2)\n"], set(), [1]),
        (["print(input())\n", "3\n"], set(), [0]),
        (["x = 1\n", "y = 2\n"], {"add"}, [1]),
    ],
)
def test_blocks_that_make_the_program(
    blocks: list[str], wanted: set[str], expected: list[int]
) -> None:
    response = "\nThen:\n".join(fence(b, marks="```", tag="python", indent="") for b in blocks)
    assert extract_program(response, wanted) == "\n".join(blocks[at] for at in expected)


@pytest.mark.parametrize("program", [FUNCTION, CLASS, INPUT, FUTURE, WITH_FENCE])
def test_a_closing_fence_may_stand_behind_the_last_line(program: str) -> None:
    for after in ("", "\nIt adds.", "\n```bash\npython add.py\n```"):
        response = f"```python\n{program.rstrip()}```{after}"
        assert extract_program(response, PROGRAMS[program]).strip() == program.strip()
    assert extract_program("```python\nx = 1  # no ```\ny = 2\n```") == "x = 1  # no ```\ny = 2\n"


@pytest.mark.parametrize("program", [FUNCTION, CLASS, INPUT, FUTURE])
@pytest.mark.parametrize(("opening", "closing"), [("[PYTHON]", "[/PYTHON]"), ("<code>", "</code>")])
def test_a_program_may_stand_between_tags(program: str, opening: str, closing: str) -> None:
    for after in (closing, f"{closing}\nDone.", ""):
        response = f"Between {opening} and {closing}:\n{opening}\n{program}{after}"
        assert extract_program(response, PROGRAMS[program]).strip() == program.strip()


@pytest.mark.parametrize("response", ["", "~~~\n~~~", "```bash\nls\n```", "```python\n\n```"])
def test_a_response_may_hold_no_program(response: str) -> None:
    assert extract_program(response).strip() == ""


def test_joined_blocks_import_from_the_future_first() -> None:
    response = f"```python\n{HELPER}```\n```python\nfrom __future__ import annotations\n{USER}```"
    program = extract_program(response, {"add"})
    assert program.startswith("from __future__") and read_code(program)


FENCED = st.lists(
    st.sampled_from(
        ["```", "````", "~~~", "```python", "~~~ a b", "``` x`y", "text", "", "  a", " ```",
         "> ```", "> text", "> ", "   ~~~", "``", "\ta"]
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(FENCED)
def test_fences_are_read_as_a_reader_of_commonmark_does(lines: list[str]) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    text = "\n".join(lines)
    tokens = markdown_it.MarkdownIt("commonmark").parse(text)
    expected = [
        CodeBlock((token.info.split() or [""])[0], token.content.removesuffix("\n"))
        for token in tokens
        if token.type == "fence"
    ]
    found = fenced_blocks(text)
    assert [CodeBlock(block.language, block.text.removesuffix("\n")) for block in found] == expected


@pytest.mark.parametrize(
    "text",
    [
        "```\n" * 30_000,
        "```python\n" * 20_000,
        "```python\n'''\n" * 10_000,
        "```python\nf(x)\n```\n" * 5_000,
        "".join(f"```python\ndef f{i}(): f{i + 1}()\nf{i}()\n```\n" for i in range(3_000)),
        ">" * 100_000,
        "> " * 50_000 + "```",
        " " * 100_000,
        " \n" * 50_000,
        "`" * 100_000,
        "- " * 50_000,
        "x " * 50_000 + "```",
        "    a\n" * 20_000,
        "f'" + "{a}" * 100_000 + "'",
        "(" * 100_000,
        "\t" * 100_000 + "```python",
    ],
)
def test_reading_takes_linear_time(text: str) -> None:
    start = time.process_time()
    extract_program(text)
    extract_program(text, {"f", "g"})
    assert time.process_time() - start < 10
