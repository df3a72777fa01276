"""The course's rules, token by token."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from data.text import rules
from data.text.rules import SPECIALS, is_blank, split_words, tokenise


def words(text: str) -> list[str]:
    return next(tokenise([text]))[1:]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("It was fun.", "xxmaj it was fun ."),
        ("I don't, can't and won't", "i do n't , ca n't and wo n't"),
        ("it's John's; they'll", "it 's xxmaj john 's ; they 'll"),
        ("a well-known film", "a well - known film"),
        ("GREAT film! A DVD", "xxup great film ! a xxup dvd"),
        ("McDonald iPhone", "mcdonald iphone"),
        ("sooooo good!!!!!", "s xxrep 5 o good xxrep 5 !"),
        ("soo good!!!", "soo good ! ! !"),
        ("no no no no no way", "xxwrep 5 no way"),
        ("very very good", "very very good"),
        ("no - no - no - no - well", "xxwrep 4 no - well"),
        ("10/10 and #1", "10 / 10 and # 1"),
        ("film/TV", "film / xxup tv"),
        ("One<br /><br />Two", "xxmaj one \n xxmaj two"),
        ("Tom &amp; Jerry &lt;3", "xxmaj tom && xxmaj jerry <3".replace("&&", "& &")),
        ("Mr. Smith of the U.S. at 10:30, $1,000.50...", "xxmaj mr. xxmaj smith of the xxup u.s. at 10:30 , "
         "$ 1,000.50 ..."),
        ("cannot", "can not"),
        (":) really?!", ":) really ? !"),
        ("  spaced   out  ", "spaced out"),
        ("tabs\tand\xa0others", "tabs and others"),
        ("Æsop’s fable isn’t", "xxmaj æsop ’s fable is n’t"),
        ("a\x00b\u200bc", "a b c"),
    ],
)  # fmt: skip
def test_a_text_becomes_these_tokens(text: str, tokens: str) -> None:
    assert words(text) == tokens.split(" ")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The lighthouse keeper's daughter didn't believe a word of it, and why should she?",
         "xxmaj the lighthouse keeper 's daughter did n't believe a word of it , and why should she ?"),
        ("Two boats (one red, one blue) left at 10:30; NOBODY saw them come back.",
         "xxmaj two boats ( one red , one blue ) left at 10:30 ; xxup nobody saw them come back ."),
        ("It cost $1,250.50 - far too much for a second-hand piano & a broken stool!",
         "xxmaj it cost $ 1,250.50 - far too much for a second - hand piano & a broken stool !"),
        ("Tom &amp; Anna paid 3/4 of the bill<br />and left the rest to Mr Grey.",
         "xxmaj tom & & xxmaj anna paid 3 / 4 of the bill \n and left the rest to xxmaj mr xxmaj grey ."),
        ("Noooooo, it was the very last train of the YEAR.",
         "n xxrep 6 o , it was the very last train of the xxup year ."),
        ("Nobody gave more than 7/10, and rule #3 says that 8 isn't possible.",
         "xxmaj nobody gave more than 7 / 10 , and rule # 3 says that 8 is n't possible ."),
        ("A \"quiet\" evening: rain, tea, \"old\" letters and McAllister's cat.",
         "a \" quiet \" evening : rain , tea , \" old \" letters and mcallister 's cat ."),
        ("Back in the '80s, the 13th sequel (a 1990s classic) ran at 10pm for 5km; thats what they'd say.",
         "xxmaj back in the ' 80s , the 13th sequel ( a 1990s classic ) ran at 10 pm for 5 km ; that s what"
         " they 'd say ."),
    ],
)  # fmt: skip
def test_common_sentences_become_the_tokens_of_fastai(text: str, tokens: str) -> None:
    """These were made by fastai 2.8.12: its default rules and its `WordTokenizer`, which asks spaCy 3.8."""
    assert words(text) == tokens.split(" ")


@pytest.mark.parametrize(
    ("piece", "tokens"),
    [
        ("'80s,", "' 80s ,"), ("13th", "13th"), ("MST3K's", "MST3 K 's"),
        ("(1999-2004)", "( 1999 - 2004 )"), ("$5M,", "$ 5 M ,"), ("10pm", "10 pm"), ("5km.", "5 km ."),
        ("20%", "20 %"), ("Part-2's", "Part-2 's"), ("etc...", "etc ..."), ("U.S.", "U.S."),
        ("Dr.Lee", "Dr. Lee"), ("J.", "J."), ("(Mr.)", "( Mr. )"), ("O'Hara's", "O'Hara 's"),
        ("can't've", "ca n't 've"), ("didnt", "did nt"), ("thats", "that s"), ("whom", "whom"),
        ("DON'T", "DON'T"), ("y'all", "y' all"), ("C'mon", "C'm on"), (":-))", ":-))"), (");", ") ;"),
        ("'):", "' ):"), ("movie-ever", "movie - ever"), ("movie-", "movie-"), ("--", "--"),
        ("3-D", "3 - D"), ("4-year", "4 - year"), ("rock'n'roll", "rock'n'roll"), ("It`s", "It`s"),
        ("'em", "'em"), ("''quoted''", "'' quoted ''"), ("a,b", "a , b"), ("u.s.A.", "u.s . A."),
        ("end.Next", "end . Next"), ("well...", "well ..."), ("A+.", "A+ ."),
        ("www.a.org/b,", "www.a.org/b ,"), ('"or?!"', '" or ? ! "'), ("Ph.D.,", "Ph.D. ,"),
        ("1,000.50.", "1,000.50 ."), ("x=y", "x = y"),
    ],
)  # fmt: skip
def test_pieces_are_split_like_spacy_s(piece: str, tokens: str) -> None:
    """These are spaCy 3.8's, of a blank English pipeline; of the 6,700 reviews of IMDB's subset, 99.7
    in 100 are split alike from end to end."""
    assert split_words(piece) == tokens.split(" ")


def test_every_document_opens_with_its_mark_where_that_is_asked_for() -> None:
    assert list(tokenise(["a b", "c"], begin=True)) == [["xxbos", "a", "b"], ["xxbos", "c"]]
    assert list(tokenise(["a b"], begin=False)) == [["a", "b"]]


def test_what_was_remembered_changes_nothing() -> None:
    texts = ["The film, the FILM and the film's end."] * 3
    together = list(tokenise(texts))
    assert together == [next(tokenise([text])) for text in texts]


def test_memory_of_pieces_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "KNOWN", 3)
    texts = [f"word{number} other{number}" for number in range(20)]
    assert list(tokenise(texts)) == [next(tokenise([text])) for text in texts]


def test_characters_and_splits_are_left_as_they_are() -> None:
    assert next(tokenise(["Ab c"], tokenizer="characters", begin=False)) == ["A", "b", " ", "c"]
    assert next(tokenise(["Ab"], tokenizer="characters", begin=False, lower=True)) == ["a", "b"]
    assert next(tokenise(["one , two"], tokenizer="split", begin=False)) == ["one", ",", "two"]
    assert next(tokenise(["a;;b c"], tokenizer="split", separator=";", begin=False)) == ["a", "b c"]
    with pytest.raises(ValueError, match="spaces"):
        next(tokenise(["a"], tokenizer="spaces"))


@pytest.mark.parametrize("text", ["", " \n", "<br /><br />", "&nbsp;", "\u200b\ufeff", "\x00\x07"])
def test_a_text_without_anything_to_read_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "!", "<3", "😀", "日本"])
def test_a_text_with_anything_to_read_is_not(text: str) -> None:
    assert not is_blank(text)
    assert words(text)


def test_special_tokens_come_in_fastai_s_order() -> None:
    assert list(SPECIALS) == ["xxunk", "xxpad", "xxbos", "xxeos", "xxfld", "xxmaj", "xxup", "xxrep", "xxwrep"]


def test_the_rules_need_nothing_but_python(tmp_path: Path) -> None:
    """An exported model carries the file alone."""
    assert rules.__file__ is not None
    (tmp_path / "rules.py").write_bytes(Path(rules.__file__).read_bytes())
    code = "import rules; print(*next(rules.tokenise(['So it goes.'])))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["xxbos", "xxmaj", "so", "it", "goes", "."]
    spec = importlib.util.spec_from_file_location("rules", rules.__file__)
    assert spec is not None


def test_a_long_text_is_no_trap() -> None:
    """Each of these would take minutes under an expression that goes back over what it has read."""
    for text in (
        "a" * 200_000,
        "a " * 100_000,
        "ab" * 100_000,
        "- " * 100_000,
        "x\n" * 50_000,
        "'" * 100_000,
    ):
        assert words(text)
