"""A password in a URL is understood or refused, whatever is in it; in neither case is a part of it shown."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from embedmq.cli.root import run
from embedmq_schemas.connection import redact_url, url_fault
from hypothesis import example, given
from hypothesis import strategies as st
from redis.asyncio.connection import parse_url

HEAD, TAIL = "Zq7wX", "K9vhJ"
ODD = (
    "/",
    "#",
    "?",
    "/0?db=1&",
    "#/",
    "?password=",
    "[",
    "]",
    "@",
    ":",
    "&",
    "%",
    "%2F",
    " ",
    "\u2100",
    "\\",
    "$",
    "+",
)
"""What a password may have in its middle."""
middles = st.lists(st.one_of(st.sampled_from(ODD), st.text(max_size=3)), max_size=4).map("".join)
CONFIG = '[models.m]\ncheckpoint = "null:8"\n'
COMMANDS = (
    ("config", "show"),
    ("config", "check"),
    ("worker",),
    ("models",),
    ("top", "--once"),
    ("doctor",),
    ("topics", "show"),
    ("jobs",),
    ("embed", "m", "a text"),
)


def shown_nothing(text: str) -> None:
    assert HEAD not in text
    assert TAIL not in text


@given(middles, st.sampled_from(["redis://:{}@h:1/0", "redis://me:{}@[::1]/2", "rediss://h/0?password={}", "{}@h:1",
                                 "unix://me:{}@/run/redis.sock?db=1", "redis://:{}@h:1/0?db=2"]))  # fmt: skip
@example("/", "redis://:{}@h:1/0")
@example("#", "redis://:{}@h:1/0")
@example("?", "redis://:{}@h:1/0")
def test_a_password_is_what_redis_is_told_or_the_url_is_refused(middle: str, form: str) -> None:
    """Neither the refusal nor what is shown has its beginning or its end."""
    secret = HEAD + middle + TAIL
    url = form.format(secret)
    fault = url_fault(url)
    shown_nothing(redact_url(url) + (fault or ""))
    if fault is None and "://" in form:  # its scheme is looked at first
        assert parse_url(url).get("password") == unquote(secret)
        assert parse_url(url).get("host", "h") in ("h", "::1")


@given(st.text(min_size=1))
def test_a_password_that_is_percent_encoded_is_understood_whatever_it_is(secret: str) -> None:
    """This is the remedy that a refusal names."""
    url = f"redis://:{quote(secret, safe='')}@h:1/0"
    assert url_fault(url) is None
    assert parse_url(url).get("password") == secret
    assert redact_url(url) == "redis://:***@h:1/0"


@pytest.mark.parametrize("url", ["redis://h:99999/0", "redis://h:notaport", "redis://h/abc", "redis://h/0#1"])
def test_a_url_that_leads_elsewhere_than_it_says_is_refused(url: str) -> None:
    """A wrong database or port is not found at the first request."""
    assert url_fault(url) is not None


@pytest.mark.parametrize("url", ["redis://h", "redis://h:6379/", "rediss://me@h:1/15", "unix:///run/redis.sock?db=1"])
def test_a_url_without_a_secret_is_shown_as_it_is(url: str) -> None:
    """It is what somebody compares with what was meant."""
    assert url_fault(url) is None
    assert redact_url(url) == url


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("odd", ["/", "#", "?", "[", " "])
def test_no_command_shows_a_password_that_was_not_percent_encoded(
    words: tuple[str, ...],
    odd: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line, and the code of a wrong setting."""
    file = tmp_path / "worker.toml"
    file.write_text(CONFIG)
    monkeypatch.setenv("EMBEDMQ_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("EMBEDMQ_REDIS", f"redis://:{HEAD}{odd}{TAIL}@127.0.0.1:1/0")
    assert run(["--config", str(file), *words]) == 2
    said = "".join(capfd.readouterr())
    assert "redis.url" in said
    assert "percent-encode" in said
    shown_nothing(said)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_shows_a_login_that_was_given_as_kafkas_address(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where a comma in the password makes two addresses of it."""
    file = tmp_path / "worker.toml"
    file.write_text(CONFIG)
    monkeypatch.setenv("EMBEDMQ_KAFKA", f"me:{HEAD},{TAIL}@127.0.0.1:1")
    monkeypatch.setenv("EMBEDMQ_REDIS", "redis://127.0.0.1:1/0")
    assert run(["--config", str(file), *words]) == 2
    shown_nothing("".join(capfd.readouterr()))
