"""Which prompts a run uses: pure functions of one prompt, each gives the reason to drop it or None.

Code and maths are recognised by patterns: heuristics for English prompts, which drop a few everyday
ones too. `python -m data_construction.peek RUN/prompts --dropped` shows what each one matched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from wrpo.errors import RecipeError
from wrpo.pipeline.tables import Drop
from wrpo.recipe.prompts import Filters

_CODE_PATTERNS = (
    # A fenced block, or inline code that calls or indexes something.
    r"```|`[^`\n(\[{]*[(\[{][^`\n]*`",
    # Lines of source: definitions, imports, includes, statements that end in ; or {.
    r"^[ \t]*(def|class)\s+\w.*:\s*$",
    r"^[ \t]*(from\s+[\w.]+\s+)?import\s+[\w.*]+",
    r"^[ \t]*#include\s*[<\"]",
    r"^[ \t]*(public|private|static|const|let|var|func|fn|return)\b.*[;{]\s*$",
    r"</?(div|span|html|body|script|table)\b[^>]{0,1000}>",
    r"\bSELECT\b[\s\S]{1,1000}?\bFROM\b",
    # Names of languages and tools that mean nothing else.
    r"\b(python|javascript|typescript|c\+\+(?!\w)|c#(?!\w)|golang|kotlin|matlab|bash script|"
    r"sql|html|css|regex|regular expression|numpy|pandas|leetcode|docker|java (class|code|"
    r"program|method))(?!\w)",
    r"\b(write|implement|create|fix|debug|refactor|optimi[sz]e)\b[^.\n]{0,60}\b"
    r"(function|program|script|code|algorithm|query|api|unit tests?)\b",
)
_MATH_PATTERNS = (
    # LaTeX: commands, display maths, inline maths with an operator or a command.
    r"\\(frac|sqrt|sum|int|lim|cdot|times|begin\{(equation|align|matrix|pmatrix|cases))",
    r"\$\$|\\\[|\\\(|\$[^$\n\\^_=+]*[\\^_=+][^$\n]*\$",
    # Arithmetic and equations; spaces around a minus keep years and phone numbers out.
    r"\d\s*[*^×÷=]\s*\d|\d\s*\+\s*\d|\d\s+[-/]\s+\d",
    r"\b[a-z]\s*(\^\s*\d|²|³)|\b\d*[a-z]\s*[-+]\s*\d+[a-z]?\s*=|\b[a-z]\s*=\s*-?\d",
    # Words of the field.
    r"\b(solve for|equations?|inequalit(y|ies)|polynomials?|derivatives? of|integrals?|integrate "
    r"the|factori[sz]e|prove that|theorem|lemma|matri(x|ces)|eigenvalues?|triangles?|hypotenuse|"
    r"perimeter|probability that|arithmetic|remainder|prime numbers?|divisible by|"
    r"square root|logarithms?)\b",
    r"\b(calculate|compute|how (many|much))\b[^?\n]{0,1000}\d",
)
_CODE = re.compile("|".join(_CODE_PATTERNS), re.IGNORECASE | re.MULTILINE)
_MATH = re.compile("|".join(_MATH_PATTERNS), re.IGNORECASE | re.MULTILINE)


def unwanted(text: str, domain: str, filters: Filters) -> Drop | None:
    """Why a prompt is not used; the cheap reasons come first.

    Args:
        text: what the user says, all turns.

    Raises:
        RecipeError: languages are asked for and langdetect is not installed.
    """
    return (
        _domain(domain, filters)
        or _length(text, filters)
        or (_match(_CODE, text, "code") if filters.remove_code else None)
        or (_match(_MATH, text, "math") if filters.remove_math else None)
        or (_language(text, filters.languages) if filters.languages else None)
    )


def detect_language(text: str) -> str | None:
    """The code of the likeliest language, or None where the text has no letters to tell it by.

    Raises:
        RecipeError: langdetect is not installed.
    """
    try:
        from langdetect import DetectorFactory, LangDetectException, detect
    except ImportError:
        raise RecipeError(
            "prompts.filters.languages needs the package langdetect: pip install langdetect "
            '(or the extra: pip install "wrpo[eval]"), or unset languages'
        ) from None
    DetectorFactory.seed = 0  # the detector samples; without a seed, equal texts may differ
    try:
        code: str = detect(text)
    except LangDetectException:
        return None
    return code


def _domain(domain: str, filters: Filters) -> Drop | None:
    wanted = filters.domains is None or domain in filters.domains
    return None if wanted and domain not in filters.exclude_domains else Drop("domain", domain)


def _length(text: str, filters: Filters) -> Drop | None:
    length = len(text)
    if filters.min_chars is not None and length < filters.min_chars:
        return Drop("too_short", f"{length} characters")
    if filters.max_chars is not None and length > filters.max_chars:
        return Drop("too_long", f"{length} characters")
    return None


def _match(pattern: re.Pattern[str], text: str, reason: str) -> Drop | None:
    found = pattern.search(text)
    return Drop(reason, " ".join(found.group().split())[:80]) if found else None


def _language(text: str, wanted: Sequence[str]) -> Drop | None:
    code = detect_language(text)
    if code is None or code in wanted or code.split("-")[0] in wanted:
        return None
    return Drop("language", code)
