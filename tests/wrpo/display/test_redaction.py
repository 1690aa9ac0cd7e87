"""No secret is shown, and nothing else is hidden."""

from __future__ import annotations

import pytest

from wrpo.display.redaction import holds_secret, names_secret, redact, redact_override

S = "hunter2secret"

SECRETS = {
    "hub token": "hf_aBcDeFgHiJkLmNoPqRsT",
    "key of OpenAI": "sk-proj-abc123_DEF456-ghi789",
    "key of Anthropic": "sk-ant-api03-AbCdEfGhIjKl",
    "token of GitHub": "ghp_abcdefghij0123456789",
    "key of AWS": "AKIAIOSFODNN7EXAMPLE",
    "key of Google": "AIzaSyA-1234567890abcdefghijk",
    "web token": "eyJhbGciOi.eyJzdWIiOiIx.SflKxwRJ",
    "private key": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
    "header": f"Authorization: Bearer {S}",
    "URL with a password": f"https://user:{S}@example.com/x.jsonl",
    "URL with a user's token": f"https://{S}@example.com/x.git",
    "URL with a password alone": f"redis://:{S}@host:6379/0",
    "URL with @ in the password": f"https://user:p@{S}@example.com",
    "URL with a slash in the password": f"https://user:p/{S}@example.com",
    "URL that became a path": f"https:/user:{S}@example.com/x.jsonl",
    "sftp": f"sftp://user:{S}@host/path",
    "query": f"https://h/x?token={S}",
    "second of a query": f"https://h/x?a=1&api_key={S}&b=2",
    "signed URL of S3": f"https://b.s3.amazonaws.com/k?X-Amz-Signature={S}",
    "signed URL of Azure": f"https://a.blob.core.windows.net/c?sv=1&sig={S}",
    "variable": f"HF_TOKEN={S}",
    "variable of several": f"A=1 OPENAI_API_KEY={S} B=2",
    "variable of AWS": f"AWS_SECRET_ACCESS_KEY='{S}'",
    "flag": f"--api-key={S}",
    "field": f"judges.big.engine.api_key={S}",
    "field of TRL": f"wrpo.train.hub_token={S}",
    "flow mapping": f"judges={{big: {{model: m, api_key: {S}}}}}",
    "JSON": f'{{"password": "{S} {S}"}}',
}

PLAIN = [
    "recipes/llama3-8b-wrpo.yaml",
    "meta-llama/Llama-3.1-8B-Instruct",
    "https://example.com/data/x.jsonl?download=true&page=2",
    "http://localhost:8000/v1",
    "http://localhost:8000/v1/models/x@main",
    "hf://datasets/org/name@v1.0/data.parquet",
    "abfs://container@account.dfs.core.windows.net/path",
    "ssh://git@github.com/org/name",
    "gs://bucket/key=3/part.parquet",
    "sample.max_tokens=4096",
    "wrpo.train.eos_token=</s>",
    "wrpo.train.pad_token=<pad>",
    "judges.big.engine.api_key_env=OPENAI_API_KEY",
    'judges.big.engine.api_key: unknown key; did you mean "api_key_env"?',
    "judges.big.engine.api_key_env: $OPENAI_API_KEY is not set; put the API key there",
    "scikit-learn, sk-learn and task-force-sk-names",
    "the author: someone",
    "key=value",
    "tokens: 12345",
    "a basic question",
]


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_of_every_kind_are_hidden(kind: str) -> None:
    text = f"before {SECRETS[kind]} after"
    shown = redact(text)
    assert S not in shown and SECRETS[kind] not in shown
    assert shown.startswith("before ") and shown.endswith(" after")
    assert holds_secret(text) and redact(shown) == shown


@pytest.mark.parametrize("text", PLAIN)
def test_nothing_else_is_hidden(text: str) -> None:
    assert redact(text) == text
    assert "=" not in text or redact_override(text) == text


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ("a.password=correct horse", "a.password=[secret]"),
        (f"a.api_key_env={S}", "a.api_key_env=[secret]"),
        ("a.token=x", "a.token=[secret]"),
        (f"model=https://u:{S}@h/m", "model=https://[secret]@h/m"),
    ],
)
def test_the_value_of_a_secrets_name_is_hidden_as_a_whole(item: str, shown: str) -> None:
    assert redact_override(item) == shown


def test_names_of_secrets() -> None:
    named = ("api_key", "hub_token", "OPENAI_API_KEY", "a.b.password", "secret", "token")
    assert all(names_secret(name) for name in named)
    others = ("api_key_env", "max_tokens", "eos_token", "token_ids", "tokenizer", "key", "keys")
    assert not any(names_secret(name) for name in others)
