"""`palo-cpp ask --json-schema FILE`: what reaches the library, and files that are none."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from palo_cpp.cli import palo_cpp


@pytest.fixture
def fake(monkeypatch):
    import fake_palo

    return fake_palo.install(monkeypatch)


def test_the_schema_reaches_the_library(fake, tmp_path):
    (tmp_path / "रंग.json").write_text(json.dumps({"type": "object"}), encoding="utf-8")
    result = CliRunner().invoke(palo_cpp, ["ask", "photo.jpg", "?", "--json-schema", "रंग.json", "-n", "5"])
    assert result.exit_code == 0
    assert fake.asked[0]["json_schema"] == {"type": "object"} and fake.asked[0]["max_tokens"] == 5


@pytest.mark.parametrize(
    ("text", "said"), [(None, "could not be read"), ("{", "expected JSON"), ("[]", "an object"), ("[" * 9**5, "JSON")]
)
def test_a_file_that_is_no_schema_is_refused_before_the_model_is_loaded(fake, tmp_path, text, said):
    if text is not None:
        (tmp_path / "schema.json").write_text(text)
    result = CliRunner().invoke(palo_cpp, ["ask", "photo.jpg", "--json-schema", "schema.json"])
    assert (result.exit_code, fake.options) == (2, None)
    assert said in result.stderr
