"""README.md and docs/results.md say what the committed results say."""

from pathlib import Path

import pytest

from sparcl_lite.report import documents

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def known():
    return documents.blocks(ROOT / "results")


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_a_document_holds_the_tables_of_the_committed_results(name, known):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert documents.filled(text, known) == text


def test_every_block_is_shown_once(known):
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in documents.DOCUMENTS)
    assert all(text.count(f"<!-- {name} -->") == text.count(f"<!-- end {name} -->") == 1 for name in known)


def test_an_unknown_block_is_named():
    with pytest.raises(ValueError, match="block 'lost': unknown; allowed: here"):
        documents.filled("<!-- lost -->\n\n<!-- end lost -->", {"here": ""})
