"""Secrets in text: what looks like one is neither kept nor shown."""

from __future__ import annotations

import re

HIDDEN = "[secret]"

_KEYS = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"hf_[A-Za-z0-9]{12,}|api_org_[A-Za-z0-9]{12,}"
    r"|sk-[A-Za-z0-9_-]{12,}|[rs]k_(?:live|test)_[A-Za-z0-9]{12,}"
    r"|gh[pousr]_[A-Za-z0-9]{12,}|github_pat_\w{12,}|glpat-[\w-]{12,}"
    r"|(?:AKIA|ASIA)[0-9A-Z]{12,}|AIza[\w-]{20,}|ya29\.[\w-]{12,}"
    r"|gsk_[A-Za-z0-9]{12,}|nvapi-[\w-]{12,}|xox[abprs]-[\w-]{10,}|r8_[A-Za-z0-9]{12,}"
    r"|eyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*"
    r")"
)
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.DOTALL)
_HEADER = re.compile(
    r"(\bBearer\s+|(?i:\bauthorization[\"']?\s*[:=]\s*[\"']?(?:basic|token)\s+))[\w+/=.~-]{8,}"
)
# user:password@ before a host; with http(s) a user name alone may be a token. A path made of a URL
# has lost one of its slashes.
_PASSWORD = re.compile(
    r"(?i)(\b[a-z][a-z0-9+.-]{0,20}:/{1,2})[^\s/?#\"'@:]*:(?!\d+(?:/|$))[^\s\"']{0,500}(?=@)"
)
_USER = re.compile(r"(?i)(\bhttps?:/{1,2})[^\s/?#\"']+(?=@)")
_WORDS = (
    r"api[_-]?key|password|passwd|passphrase|pwd|secret|secret[_-]key|private[_-]?key|access[_-]?key"
    r"|credentials?|auth(?:orization)?|signature"
    r"|(?:access|auth|hub|hf|bearer|refresh|session|security|secret|api|sas|user|github|gitlab|wandb)"
    r"[_-]?token"
)
_NAMED = r"(?:[\w.-]{0,80}(?<![A-Za-z0-9])(?:" + _WORDS + r"))"
_VALUE = r"(?!\[secret\])(?:\"[^\"]*\"|'[^']*'|[^\s\"',;&}\]#]+)"
_QUERY = re.compile(r"(?i)([?&;](?:" + _NAMED + r"|token|key|sig|x-amz-credential)=)" + _VALUE)
_ASSIGNED = re.compile(r"(?i)((?<![\w-])(?:--)?(?:" + _NAMED + r"|token)=)" + _VALUE)
_ENVIRONMENT = re.compile(
    r"(\b[A-Z][A-Z0-9_]*(?:TOKEN|SECRET|PASSWORD|PASSWD|KEY|CREDENTIALS?)=)" + _VALUE
)
_IN_MAPPING = re.compile(r"(?i)([{,(][\s\"']*(?:" + _NAMED + r"|token)[\"']?\s*:\s*)" + _VALUE)
_NAME = re.compile(rf"(?i)(?:[\w-]*(?<![A-Za-z0-9]))?(?:{_WORDS})|token")
_VARIABLE = re.compile(r"\$?[A-Z_][A-Z0-9_]*")


def redact(text: str) -> str:
    """The text without passwords, keys and tokens.

    >>> redact("https://me:hunter2@example.com/x.jsonl?token=abc&n=1")
    'https://[secret]@example.com/x.jsonl?token=[secret]&n=1'
    >>> redact("judges.big.engine.api_key=hunter2")
    'judges.big.engine.api_key=[secret]'
    """
    text = _PEM.sub(HIDDEN, text)
    for pattern in (_PASSWORD, _USER, _QUERY, _ASSIGNED, _ENVIRONMENT, _IN_MAPPING, _HEADER):
        text = pattern.sub(lambda found: found[1] + HIDDEN, text)
    return _KEYS.sub(HIDDEN, text)


def redact_override(item: str) -> str:
    """A `key=value` of a command line; the whole value where its key is the name of a secret."""
    key, equals, value = item.partition("=" if "=" in item else ":")
    if equals and (
        names_secret(key) or (key.endswith("api_key_env") and not _VARIABLE.fullmatch(value))
    ):
        return f"{key}{equals}{HIDDEN}"
    return redact(item)


def names_secret(key: str) -> bool:
    """Whether the value under this key can only be a secret, e.g. api_key or hub_token."""
    return _NAME.fullmatch(key.rpartition(".")[2]) is not None


def holds_secret(text: str) -> bool:
    """Whether a text has something to hide."""
    return redact(text) != text
