"""Words and sentence length of the README and of every page: ``python -m tests.documentation.words [FOLDER]``.

``words`` are those of the whole file, as ``wc -w`` counts them. Sentences are those of the prose: paragraphs and list
items, without headings, tables, code blocks and images. A piece of inline code, and a link's text, count as they read:
`code` is one word.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README_WORDS = 1500
WORDS_A_SENTENCE = 18.0
_NO_PROSE = re.compile(r"^```.*?^```$|^ {4}.*?$|^\|.*?$|^#.*?$|^<.*?$|!\[[^]]*\]\([^)]*\)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )")
_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
_SENTENCE_END = re.compile(r"(?<=[.!?])[)\"*]*\s+(?=[\"(*]*[A-Z])")


def sentences(page: str) -> list[str]:
    """The sentences of a page's prose."""
    prose = _LINK.sub(r"\1", _NO_PROSE.sub("\n\n", page))
    prose = re.sub(r"`[^`]+`", "Code", prose)
    blocks = (re.sub(r"^\s*(?:[-*]|\d+\.) ", "", block.strip("\n")) for block in _BLOCK.split(prose))
    split = [sentence.strip() for block in blocks for sentence in _SENTENCE_END.split(" ".join(block.split()))]
    return [sentence for sentence in split if re.search(r"\w", sentence)]


def words_a_sentence(page: str) -> float:
    """The mean number of words of a page's sentences; 0 where it has none."""
    lengths = [len(sentence.split()) for sentence in sentences(page)]
    return sum(lengths) / max(len(lengths), 1)


def pages(root: Path = ROOT) -> dict[str, str]:
    """The README and the pages of docs/, by path."""
    paths = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def main(root: Path) -> None:
    """Print the table of ``root``'s pages, and the longest sentences of those above the limit."""
    for name, page in pages(root).items():
        mean = words_a_sentence(page)
        print(f"{name:28} {len(page.split()):6,} words {len(sentences(page)):4} sentences of {mean:5.1f} words")
        if mean > WORDS_A_SENTENCE:
            print(*(f"    {sentence}" for sentence in sorted(sentences(page), key=len)[-3:]), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT)
