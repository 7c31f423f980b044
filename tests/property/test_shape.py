"""Shaping for speech: no mark is spoken, any cutting of the text gives the same speech, and plain text is unchanged."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from se_server.streams._shape import Shaper
from se_server.streams.formulas import say_formula
from se_server.streams.shaping import read_shape

MARKS = [
    *(
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\[",
        "\\frac{a}{b}",
        "\\boxed{",
        "}",
        "~",
        "^",
        "==",
        ":smile:",
        "ftp://",
        "<sup>",
        "<List>",
        "a<b",
    ),
    *("<|im_end|>", "<|", "|>", "[!NOTE]\n", "&#x1F600;"),
    *("[1]: https://x.y\n", "[^1]: ", "(see [1])", "[a][b]", "arr[0]", "A | B\n--|--\n", "*69", "a*b", "__x__"),
    *(
        "*",
        "**",
        "***",
        "_",
        "__",
        "`",
        "```",
        "~~",
        "~~~",
        "#",
        "## ",
        "- ",
        "* ",
        "+ ",
        "> ",
        "| ",
        "|",
        "---",
        "===",
    ),
    *(
        "[",
        "](",
        "]",
        ")",
        "(",
        "![",
        "[^1]",
        "[1]",
        "http://",
        "https://www.",
        "www.",
        "/path?x=1",
        "<b>",
        "</b>",
        "<",
    ),
    *(">", "<br/>", "<think>", "</think>", "<!--", "-->", "&amp;", "&", "\\", "😀", "👍🏽", "❤️", "🇩🇪", "1️⃣", "→", "->"),
    *(
        "•",
        "\u200d",
        "\ufe0f",
        "【4:0†source】",
        "\ue200cite\ue201",
        "=",
        '<a href="x">',
        "<j@x.org>",
        "\n",
        "\n\n",
        " ",
    ),
]
WORDS = [
    "-",
    "+",
    "Hello",
    "world",
    "h",
    "ht",
    "w",
    "x",
    "3",
    "3.5",
    ".",
    "!",
    "?",
    ",",
    ":",
    "Dr.",
    "e.g.",
    "はい。",
    "naïve",
]
texts = st.lists(st.sampled_from(MARKS + WORDS), max_size=14).map("".join)
shapes = st.sampled_from(["plain", "sentences", "plain, sentences", "plain, 2 words", "3 words", "1 word"])


def spoken(text: str, shape: str = "plain", cuts: list[int] | None = None) -> list[str]:
    shaper = Shaper(shape)
    chunks, before = [], 0
    for cut in [*sorted(min(cut, len(text)) for cut in cuts or []), len(text)]:
        chunks += shaper.feed(text[before:cut])
        before = cut
    return chunks + shaper.finish()


# Markdown (CommonMark 0.31, GFM, Pandoc), HTML, TeX, and what language models write beside it.
SPEECH = [
    ("Hello **world**, *it* is `user_id` or snake_case.", "Hello world, it is user id or snake_case."),
    ("# Title\n- one\n- [x] two\n  * three\n1. four", "Title\none\ntwo\nthree\n1. four"),
    ("Hi 😀. Great 👍🏽 job ❤️!", "Hi. Great job!"),
    ("A → B -> C", "A, B, C"),
    ("AT&amp;T and R&D, &bogus; and &#39;x&#39;", "AT&T and R&D, &bogus; and 'x'"),
    ("> quote\n> - item\n\n---\n\nnext", "quote\nitem\n\nnext"),
    ("Head\n====\nText\n----\nMore", "Head\nText\nMore"),
    ("فارسی می\u200cخواهم and क्\u200dष", "فارسی می\u200cخواهم and क्\u200dष"),
    ("これは**「強調」**です。你好**世界**。", "これは「強調」です。你好世界。"),
    ("- [ ] todo\n- [x] done\n* [X] gone", "todo\ndone\ngone"),
    ("one  \ntwo\\\nthree", "one  \ntwo\nthree"),
    ("\\# x \\*y\\* \\[z\\] 1\\. C:\\Users\\me", "# x *y* [z] 1. C:\\Users\\me"),
    (":smile: at 12:30:45 :) a:b", "at 12:30:45 :) a:b"),
    # emphasis
    ("**Q:** *a* ***b*** __c__ _d e_ **_f_**", "Q: a b c d e f"),
    ("un*frigging*believable word*s*", "unfriggingbelievable words"),
    ("2 * 3 = 6, 2**8, 3*4*5, a*b*c, 5* hotel", "2 * 3 = 6, 2**8, 3*4*5, a*b*c, 5* hotel"),
    ("-5 degrees, 50%, $5, C#, _private", "-5 degrees, 50%, $5, C#, _private"),
    ("Dial *69, then press *. Rated *5*.", "Dial *69, then press *. Rated 5."),
    ("He said “*yes*” (**no**).", "He said “yes” (no)."),
    ("H~2~O, x^2^, 1^st^, 10^-3, ~5, ~/dir, ~~old~~ new", "H2O, x^2, 1st, 10^-3, ~5, ~/dir, old new"),
    ("==marked== if a == b and c==d", "marked if a == b and c==d"),
    ("__init__ and __all__ of a_b_c", "init and all of a_b_c"),
    # links, footnotes, sources, brackets
    ("See [the docs](https://x.y/z_(a)) and ![pic](p.png)!", "See the docs and pic!"),
    ('[a\nb](c) [t](<u v> "title") [**bold**](u)', "a\nb t bold"),
    ("[text][1] and [text][] and [![badge](a.b)](c.d)\n\n[1]: https://q.r 'Title'", "text and text and badge "),
    ("[1]: https://q.r\n[b]: <c.d>\nText", "Text"),
    ("A fee[^1].\n\n[^1]: For new customers.", "A fee.\n\nFor new customers."),
    ("Paris[1][2] is nice [^3].【4:0†source】", "Paris is nice."),
    ("It is so [1], [2, 3]. Also (see [1], [2][3]).", "It is so. Also."),
    ("Known[1](https://a.b/c) and [3](#part).", "Known and 3."),
    ("Press [1], [2] or [3] now.", "Press [1], [2] or [3] now."),
    ("arr[0], x[1][2], row_ids[3], d['key'], f(x)[0]", "arr[0], x[1][2], row_ids[3], d['key'], f(x)[0]"),
    ("[laughs] he said [sic] in [0, 1) or (0, 1]", "[laughs] he said [sic] in [0, 1) or (0, 1]"),
    ("[note](see below) and handlers[i](event)", "[note](see below) and handlers[i](event)"),
    ("Visit https://www.example.com/help?x=1. Or (http://a.b:80/c), ok", "Visit example.com. Or (a.b), ok"),
    ("https://en.wikipedia.org/wiki/A_(b)_c is it.", "en.wikipedia.org is it."),
    ("(https://x.y/q?a[0]=1&b[]=2) and <https://a.b> ok", "(x.y) and a.b ok"),
    ("ftp://host/path or mail <j@x.org>, a_b@c.org", "ftp host or mail j@x.org, a_b@c.org"),
    # tables and bars
    ("| a | b |\n|---|:-:|\n| 1 | `x|y` |\n\nend", "a, b\n1, x|y\n\nend"),
    ("A | B\n--- | ---\n1 | 2", "A, B\n1, 2"),
    ("x || true, |x| < 3, cat f | grep y", "x || true, |x| < 3, cat f | grep y"),
    ("|x| is absolute", "|x| is absolute"),
    # HTML
    ("a < b and <b>bold</b><br>new <!-- no -->x", "a < b and bold\nnew x"),
    ("5 < 6 > 4, if a<b and c>d, List<String>, I <3 u", "5 < 6 > 4, if a<b and c>d, List<String>, I <3 u"),
    ('H<sub>2</sub>O x<sup>2</sup> 10<sup>th</sup> <a href="u">l</a>', "H2O x^2 10th l"),
    ("<think>secret</think>Hi <answer>you</answer>", "Hi you"),
    ("<think>not closed. Hi", ""),
    ("Use <think> for it, or `<think>`.", "Use for it, or think."),
    # code
    ("Look:\n```python\nprint('x')\n```\nDone.", "Look:\n\nDone."),
    ("Use `**kwargs`, `a[0]`, `x || y`, `$HOME`, `2*n` and it`s", "Use kwargs, a[0], x || y, $HOME, 2*n and it`s"),
    ("Use `vector<int> v`, `</b>`, `\\d*$` and `git log HEAD~1`", "Use vector<int> v, /b, \\d*$ and git log HEAD~1"),
    # mathematics
    (r"$x^2$, $\frac{a}{b} \times 2$ and $a_b$", "x², a ÷ b × 2 and a b"),
    (r"\(a \le b\), \[E = mc^2\] and $$\sqrt{2} \approx 1.4$$", "a ≤ b, E = mc² and √2 ≈ 1.4"),
    ("$5, $10-$20, $3.50/month and US$ 5 or $AAPL", "$5, $10-$20, $3.50/month and US$ 5 or $AAPL"),
    (r"So \begin{align} a &= b \\ c &= d \end{align} ok, \begin{x} y", r"So a = b c = d ok, \begin{x} y"),
    (r"So \boxed{42}, **\boxed{\frac{1}{2}}** and \boxed{\text{a \{b\}}}.", "So 42, 1/2 and a {b}."),
    ("\\boxed{x_a}\n- \\boxed{}`\\boxed{1}` \\boxed2\n\\boxed{3\n\n4}", "x a\n\\boxed{1} \\boxed2\n\\boxed{3\n\n4}"),
    # code in quotations, within a line, and with its end at the end of a line
    ("A:\n\n> ```\n> 42\n> ```\n\nThat is it.", "A:\n\nThat is it."),
    ("A:\n> ```py\n> x > 1\n>\n> y\n\nThat is it.", "A:\n\nThat is it."),
    ("> ```\ncode\n> ```\nB", "B"),
    ("Use this: ```bash\nls\n```\nfour, ```x``` five", "Use this:\nfour, x five"),
    ("Run:\n```\nls```\nfour\n```\nls\n```, five", "Run:\n\nfour\n, five"),
    # keys and gaps
    ("Press the \"*\" key, '*', “*”, (*), `*` or `_`.", "Press the \"*\" key, '*', “*”, (*), * or _."),
    ("Press *, **, or ***. About **.net**: f**k.", "Press *, **, or ***. About .net: f**k."),
    (
        "Press [1], then [2].\nOption [1]: sales. Press key [3].",
        "Press [1], then [2].\nOption [1]: sales. Press key [3].",
    ),
    ("As in [3].\nDial[4].\nParis [2]. Rome[1].", "As in [3].\nDial[4].\nParis. Rome."),
    ("Hit <enter>, <esc> or <tab>. <John> hi", "Hit enter, esc or tab. John hi"),
    ("<step>a</step> <x y='b'>c</x> <yes> or <no>", "step a c yes or no"),
    ("Fill ___ in the ____.", "Fill ___ in the ____."),
    ("- 5 °C\n- 5 apples\n- 5", "- 5 °C\n5 apples\n5"),
    ("Hi😀there 1️⃣2️⃣ 👍🏽x", "Hi there 1 2 x"),
    ("if 5 <a 6", "if 5 <a 6"),
    # blocks of HTML
    ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>end", "1, 2\n\n3\n\nend"),
    ("<summary>A</summary>B<pre>c</pre>d<dl><dt>e</dt><dd>f</dd></dl>", "A\nB\nc\nd\n\ne\n\nf "),
    # passwords in addresses
    ("https://user:pw@host.com/x?y, http://me@host.org.", "host.com, host.org."),
    ("https://u:p#w@a.b ftp://u:p/w@c.d/x redis://:pw@e/0", "a.b ftp c.d redis e"),
    ("<https://u:12@h.com> `curl https://u:p@h.com/x`", "h.com curl https://h.com/x"),
    ("(https://a.b:80/c@d), https://x.y: z@w.v", "(a.b), x.y: z@w.v"),
    ("See https://user:secret", "See "),
    # of models
    ("> [!NOTE]\n> Mind it.<|im_end|> a <| b, <|x", "Mind it. a <| b, "),
    ("Bye &#x1F600;! &rarr; ok", "Bye! ok"),
    # ends within a mark
    ("half **bo", "half bo"),
    ("half [link](http://", "half link"),
    ("half [li", "half li"),
    ("half ```py\nx = 1", "half "),
    ("all\n```py\nx = 1", "all "),
    ("half <b", "half "),
    ("half [^1", "half "),
    ("half \\boxed{4", "half 4"),
]


@pytest.mark.parametrize(("text", "speech"), SPEECH)
def test_marks_are_not_spoken(text: str, speech: str) -> None:
    assert "".join(spoken(text)) == speech
    assert "".join(spoken(text, "plain", list(range(len(text))))) == speech
    for place in range(1, len(text)):
        assert "".join(spoken(text, "plain", [place])) == speech, place


@pytest.mark.parametrize(("text", "speech"), SPEECH)
def test_an_end_anywhere_speaks_no_half_mark(text: str, speech: str) -> None:
    marks = [
        mark for mark in ("**", "```", "](", "![", "[^", "://", "<b", "<t", "</", "<!", "~~") if mark not in speech
    ]
    for place in range(len(text)):
        half = "".join(spoken(text[:place]))
        assert not [mark for mark in marks if mark in half], half


@pytest.mark.parametrize(
    ("tex", "said"),
    [
        (r"\frac{a+b}{2} \cdot \pi r^2", "(a+b) ÷ 2 · π r²"),
        (r"\frac{1}{1 + \frac{1}{x}}", "1 ÷ (1 + 1 ÷ x)"),
        (r"\int_0^1 x\,dx \to \infty", "∫0^1 x dx → ∞"),
        (r"v_{max} = 5\,\text{km/h}, 50\%", "v max = 5 km/h, 50%"),
        (r"\left( \sqrt{x+1} \right) \in \{1, 2\}", "( √(x+1) ) ∈ {1, 2}"),
        (r"\frac{1}{2} x^{3} + x^{10} - 2^{n+1} + 2^3", "1/2 x³ + x^10 - 2^(n+1) + 2³"),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "a = b c = d"),
        (r"\frac{G m_1 m_2}{r^2}", "(G m1 m2) ÷ r²"),
        (r"90^\circ, 5^{\circ}, \vec{v}, \hat{x}, \binom{n}{k}, e^{-x}", "90°, 5°, v, x, n choose k, e^(-x)"),
        (r"\unknown{x} \frac{a", "unknownx fraca"),
    ],
)
def test_formulas_are_said_in_signs(tex: str, said: str) -> None:
    assert say_formula(tex) == said


def test_chunks_are_sentences_or_words() -> None:
    text = 'Hello there. Dr. Smith, e.g., said 3.5! "Really?" Yes.\n1. One thing\n日本。語です'
    assert spoken(text, "sentences") == [
        "Hello there. ",
        "Dr. Smith, e.g., said 3.5! ",
        '"Really?" ',
        "Yes.\n",
        "1. One thing\n",
        "日本。",
        "語です",
    ]
    assert spoken("one two  three four five", "2 words") == ["one two ", " three four ", "five"]
    assert spoken("**One** two *three*", "plain, 2 words") == ["One two ", "three"]


@settings(max_examples=1500)
@given(texts, shapes, st.lists(st.integers(0, 80), max_size=12))
def test_any_cutting_gives_the_same_speech(text: str, shape: str, cuts: list[int]) -> None:
    found = spoken(text, shape, cuts)
    whole = spoken(text, shape)
    assert "".join(found) == "".join(whole)
    if shape != "plain":
        assert found == whole


@settings(max_examples=1000)
@given(texts)
def test_one_character_at_a_time_is_no_different(text: str) -> None:
    assert "".join(spoken(text, "plain", list(range(len(text))))) == "".join(spoken(text))


@settings(max_examples=1000)
@given(texts)
def test_no_picture_or_address_is_spoken(text: str) -> None:
    speech = "".join(spoken(re.sub(r"[\\&`$]", "", text)))
    for mark in ("😀", "👍", "❤", "\ufe0f", "†"):
        assert mark not in speech, (text, speech)
    assert not re.search(r"(?<!\w)https?://", speech), (text, speech)


ENGLISH = [
    *("the", "a", "price", "of", "our", "order", "number", "is", "ready", "and", "costs", "about", "I", "don't"),
    *("well-known", "it's", "Dr.", "Smith", "e.g.", "at", "No.", "5"),
]
PLAIN = [
    *("a_b_c", "user_id", "x_1", "snake_case_name", "camelCase", "foo.bar", "f(x)", "x[i]", "arr[0]", "List<String>"),
    *("[sic]", "[laughs]", "3.5", "1,000", "-5", "50%", "$5", "$3.50", "€20", "C#", "C++", "#1", "R&D", "AT&T", "a/b"),
    *("j.doe+x@ex-am.org", "a_b@c.co.uk", "12:30", "10-12", "~5", "x^2", "i<3", "a<b", "c>d", "a<=b", "(or", "not)"),
    *(
        '"quoted"',
        "“quoted”",
        "’tis",
        "…",
        "—",
        "50°",
        "½",
        "naïve",
        "北京",
        "C:\\dir",
        "~/dir",
        "a*b",
        "3*4",
        "{x}",
        "=5",
    ),
    *("2 * 3 * 4", "5 < 6 > 4", "2 + 2 = 4", "x || y", "a & b", "a | b", "a == b", "10 / 2", "x := 1", "key: value"),
]
plain_texts = st.lists(st.sampled_from(ENGLISH + PLAIN), min_size=1, max_size=12).map(" ".join)


@settings(max_examples=1500)
@given(plain_texts, st.sampled_from(["", ".", "!", "?"]), shapes, st.lists(st.integers(0, 80), max_size=6))
def test_ordinary_text_is_unchanged(words: str, end: str, shape: str, cuts: list[int]) -> None:
    text = "I say " + words + end
    assert "".join(spoken(text, shape, cuts)) == text


@given(st.text("abc XYZ.,?:;'\n0%äñ中é", max_size=40), shapes)
def test_text_without_marks_is_unchanged(text: str, shape: str) -> None:
    assert "".join(spoken(text, shape)) == text


@given(st.text(max_size=60), shapes, st.lists(st.integers(0, 60), max_size=6))
def test_any_text_is_taken(text: str, shape: str, cuts: list[int]) -> None:
    assert "".join(spoken(text, shape, cuts)) == "".join(spoken(text, shape))


@pytest.mark.parametrize(
    ("raw", "shape"),
    [
        *(
            ("plain", "plain"),
            (True, "plain"),
            ("true", "plain"),
            ("off", None),
            (False, None),
            (None, None),
            ("", None),
        ),
        *(("Sentences", "sentences"), ("sentences,plain", "plain, sentences"), ("8 words", "8 words")),
        *(("words=8", "8 words"), ("plain + 8words", "plain, 8 words"), ("1 word", "1 words")),
    ],
)
def test_a_shape_is_read(raw: object, shape: str | None) -> None:
    assert read_shape(raw) == shape


@pytest.mark.parametrize(
    "raw", ["markdown", "plain plain", "plain, plain", "0 words", "101 words", "8", 8, "sentences, 8 words"]
)
def test_another_shape_is_an_error(raw: object) -> None:
    with pytest.raises(ValueError, match=r"plain, which leaves out|from 1 to 100 words"):
        read_shape(raw)


def test_a_long_sentence_is_cut_at_a_blank() -> None:
    chunks = spoken("word " * 200, "sentences")
    assert max(map(len, chunks)) <= 290
    assert "".join(chunks) == "word " * 200
