"""What is in the repository makes sense to its readers wherever they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# One letter of each word stands in brackets, so that this file does not match itself.
FORBIDDEN: dict[str, re.Pattern[str]] = {
    "a path of one machine": re.compile(
        r"(?<![\w.$}~-])/(?:[r]oot|[w]ork)/|(?<![\w.-])/opt/[p]ypi|\.\./[s]hared/"
    ),
    "the host of a package registry": re.compile(
        r"\b(?:[p]ypi\.org|[p]ythonhosted\.org|[r]egistry\.npmjs\.org|[n]odesource\.com"
        r"|(?:deb|security|snapshot|ftp\.\w+)\.[d]ebian\.org|[p]kg\.dev)\b",
        re.IGNORECASE,
    ),
    "a remark about how the work was organised": re.compile(
        r"\b[s]ession \d+\b|\b[i]ssue #|\b[i]ssue \d+\b|\b[i]ssues show\b|\b[w]orkplace\b",
        re.IGNORECASE,
    ),
    "a remark about who wrote it": re.compile(
        r"\b[a]ssistants?\b|\b[l]anguage model|\b[C]hat-?GPT|\b[A]nthropic\b"
        r"|\b[C]laude Code\b|\bAI[- ][g]enerated\b",
        re.IGNORECASE,
    ),
}


def forbidden_words(name: str, text: str) -> Iterator[str]:
    """A sentence for each line of a text that says what it should not."""
    for number, line in enumerate(text.splitlines(), start=1):
        for kind, pattern in FORBIDDEN.items():
            found = pattern.search(line)
            if found:
                yield f"{name}:{number}: {found[0]!r} is {kind}"


def test_no_file_speaks_of_one_machine_or_of_its_making(
    repository: Path, tracked: tuple[Path, ...]
) -> None:
    """A path, a host or a remark that only its writer understands misleads every other reader."""
    complaints: list[str] = []
    for path in tracked:
        name = str(path.relative_to(repository))
        data = path.read_bytes()
        text = "" if b"\0" in data else data.decode(errors="replace")
        complaints += forbidden_words(name, f"{text}\n{name}")
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    "text",
    [
        "cd /" + "work/main",
        'HOME="/' + 'root/x"',
        "see .." + "/shared/NOTES.md",
        "https://py" + "pi.org/simple",
        "http://deb.de" + "bian.org/debian",
        "as agreed in ses" + "sion 4",
        "closes is" + "sue #12",
        "written by an assis" + "tant",
    ],
)
def test_each_kind_of_forbidden_word_is_found(text: str) -> None:
    """A check that cannot fail checks nothing."""
    assert len(list(forbidden_words("a.md", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "the TCP session ends; sessions and issues are ordinary words",
        "mount host on /newroot, then switch_root /newroot/sbin/init",
        "https://example.org/work/paper.pdf and $base/work/x",
        "the Debian project; the Python package index",
        "a known defect of the library (P1sec/pysctp#54)",
        "root/ and work/ are folders like others",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """A check with false alarms is soon switched off."""
    assert list(forbidden_words("a.md", text)) == []
