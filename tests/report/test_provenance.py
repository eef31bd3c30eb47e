"""Provenance, and removal of private information."""

import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from earmark import __version__
from earmark.cli import Invocation
from earmark.files.hashing import file_hash
from earmark.report.provenance import (
    data_hash,
    exclusions,
    git_state,
    input_records,
    provenance,
    shown_argument,
    shown_url,
)
from earmark.report.signature import Signature


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("https://me:secret@host:8765/v1/similarity", "https://host:8765/v1/similarity"),
        ("https://host/v1?key=secret#secret", "https://host/v1"),
        ("--endpoint=https://me:secret@host/v1", "--endpoint=https://host/v1"),
        ("--endpoint=https://me:secret@host/v1?key=secret&user=me", "--endpoint=https://host/v1"),
        ("HTTPS://me:secret@host/v1", "https://host/v1"),
        ("https://me:sec/ret@host/v1", "https://host/v1"),
        ("https://me:secret?x@host/v1?y", "https://host/v1"),
        ("https://me:secret[@host:8/v1", "https://host:8/v1"),
        ("https://sec:ret/secret@host:8765/v1", "https://host:8765/v1"),
        ("--encoder=HTTPS://secret@host/v1?api_key=secret", "--encoder=https://host/v1"),
        ("caf\udce9.csv", "caf\\udce9.csv"),
        ("--output-dir=/elsewhere/secret/caf\udce9", "--output-dir=caf\\udce9"),
        ("http://host:port/v1", "http://host:port/v1"),
        ("/elsewhere/secret/out", "out"),
        ("--output-dir=/elsewhere/secret/out", "--output-dir=out"),
        ("--output-dir=/elsewhere/secret/a=b", "--output-dir=a=b"),
        ("--ties", "--ties"),
        ("--ties=absent", "--ties=absent"),
        ("emolia-emo", "emolia-emo"),
        ("a=b", "a=b"),
    ],
)
def test_shown_argument_hides_secrets_and_paths(argument, shown):
    assert shown_argument(argument) == shown
    assert "secret" not in shown_argument(argument)


def test_shown_argument_keeps_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_argument(str(tmp_path / "annotations" / "emolia-emo")) == "annotations/emolia-emo"


def test_shown_url_hides_secrets():
    assert shown_url("http://u:p@127.0.0.1:80/v1;x?q=1#f") == "http://127.0.0.1:80/v1;x"
    assert shown_url("http://u:p%40@[::1]:80/v1") == "http://[::1]:80/v1"


def test_signature_format():
    line = Signature.from_parts(suite="emolia-dim", ties="exclude", n_raters=3)
    assert str(line) == f"earmark:{__version__}|suite:emolia-dim|ties:exclude|n-raters:3"


def test_signature_replaced():
    line = Signature.from_parts(suite="x", metric="eer", n_raters=3)
    assert str(line.replaced(metric="cllr", n_raters=2)) == f"earmark:{__version__}|suite:x|metric:cllr|n-raters:2"
    assert line["metric"] == "eer"
    assert Signature.parse(str(line)) == line
    with pytest.raises(KeyError, match="the signature has no such part: protocol: earmark:"):
        line.replaced(protocol="strict")


def test_signature_escapes_separators():
    assert str(Signature.from_parts(model="a|metric:eer\n`x`")).split("|")[1:] == ["model:a-metric:eer--x-"]


def test_data_hash_independent_of_names(tmp_path):
    for name, text in {"a": "one", "b": "one", "c": "two"}.items():
        (tmp_path / name).write_text(text)
    a, b, c = (tmp_path / name for name in "abc")
    assert file_hash(a) == sha256(b"one").hexdigest()
    one, same, other = ([entry] for path in (a, b, c) for entry in input_records({path: 1}))
    assert data_hash(one) == data_hash(same) != data_hash(other)
    assert data_hash(one + other) != data_hash(other + one)
    assert re.fullmatch("[0-9a-f]{8}", data_hash(one + other))


@pytest.fixture
def checkout(tmp_path):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t.invalid", "-C", tmp_path, *words],
            check=True,
            capture_output=True,
        )

    (tmp_path / "script.py").write_text("one")
    (tmp_path / "report.md").write_text("one")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    return tmp_path


def test_git_state_clean(checkout):
    state = git_state(checkout)
    assert re.fullmatch("[0-9a-f]{40}", state["commit"])
    assert state["dirty"] is False


@pytest.mark.parametrize(("changed", "dirty"), [("script.py", True), ("new.toml", True), ("report.md", False)])
def test_git_state_dirty_only_for_code(checkout, changed, dirty):
    (checkout / changed).write_text("two")
    assert git_state(checkout)["dirty"] is dirty


def test_git_state_outside_checkout(tmp_path):
    assert git_state(tmp_path) == {"commit": None, "dirty": False}


def test_provenance_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("users.csv").write_text("username\nann\n")
    result = provenance(
        Invocation(Path("/somewhere/analysis.py"), ("--seed", "3", "--annotations-root", "/private/annotations"), 3),
        inputs=input_records({tmp_path / "users.csv": 1}),
        parameters={"ties": "exclude"},
        exclusions=exclusions({"older": 2, "newer": 0}),
        signature=Signature.from_parts(suite="s"),
    )
    assert result.script == "analysis.py"
    assert result.argv == ["--seed", "3", "--annotations-root", "annotations"]
    assert [(one.path, one.sha256, one.rows) for one in result.inputs] == [
        ("users.csv", sha256(b"username\nann\n").hexdigest(), 1)
    ]
    assert [(one.reason, one.count) for one in result.exclusions] == [("older", 2)]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", result.created_utc)
    assert {"numpy", "pandas"} <= set(result.packages)
