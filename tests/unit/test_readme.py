"""The README says what was measured and names what exists."""

import re

import pytest

from benchmarks import readme

TEXT = readme.README.read_text()


def test_numbers_are_those_of_the_committed_results() -> None:
    assert readme.updated(TEXT) == TEXT, "run: python -m benchmarks.readme"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", TEXT))))
def test_links_lead_somewhere(path: str) -> None:
    assert path.startswith("http") or (readme.README.parent / path).exists()
