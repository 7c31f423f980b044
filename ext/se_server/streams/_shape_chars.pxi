# Kinds of characters.

cdef inline bint is_blank(Py_UCS4 c) noexcept:
    return c == c" " or c == c"\n" or c == c"\t" or c == c"\r"


cdef inline bint is_digit(Py_UCS4 c) noexcept:
    return c"0" <= c <= c"9"


cdef inline bint is_word(Py_UCS4 c) noexcept:
    """Whether it is a letter or a digit of any script."""
    if c < 128:
        return c"a" <= c <= c"z" or c"A" <= c <= c"Z" or c"0" <= c <= c"9"
    return Py_UNICODE_ISALNUM(c)


cdef inline bint is_latin(Py_UCS4 c) noexcept:
    return c"a" <= c <= c"z" or c"A" <= c <= c"Z"


cdef inline Py_UCS4 lowered(Py_UCS4 c) noexcept:
    return <Py_UCS4>(<unsigned int>c + 32) if c"A" <= c <= c"Z" else c


cdef inline bint is_punctuation(Py_UCS4 c) noexcept:
    """Whether a backslash before it makes it a character like others (CommonMark 0.31, 2.4)."""
    return c < 128 and c > 32 and not is_word(c) and c != 127


cdef inline bint follows_closely(Py_UCS4 c) noexcept:
    """Whether it stands right behind a word, without a blank."""
    return c == c"." or c == c"," or c == c"!" or c == c"?" or c == c";" or c == c":"


cdef inline bint ends_at_once(Py_UCS4 c) noexcept:
    return c == 0x3002 or c == 0xFF01 or c == 0xFF1F or c == 0xFF0E


cdef inline bint closes_sentence(Py_UCS4 c) noexcept:
    """Whether it may stand between the end of a sentence and the next one."""
    return (
        c == c'"' or c == c"'" or c == c")" or c == c"]" or c == 0x201D or c == 0x2019 or c == 0xBB or c == 0x300D
        or c == 0x300F or c == 0xFF09
    )


cdef inline bint is_bullet(Py_UCS4 c) noexcept:
    return (
        c == 0x2022 or c == 0x2023 or c == 0x2043 or c == 0x2219 or c == 0x25E6 or c == 0x25AA or c == 0x25AB
        or c == 0x25CF or c == 0x25CB or c == 0xB7
    )


cdef inline bint is_arrow(Py_UCS4 c) noexcept:
    return 0x2190 <= c <= 0x21FF or 0x27F0 <= c <= 0x27FF or 0x2900 <= c <= 0x297F


cdef inline bint is_picture(Py_UCS4 c) noexcept:
    """Whether it is an emoji, a part of one, or a symbol that is drawn: in speech it would be its name."""
    return (
        0x2300 <= c <= 0x23FF           # technical: clocks, keys
        or 0x2500 <= c <= 0x27EF        # lines, shapes, symbols, dingbats
        or 0x2B00 <= c <= 0x2BFF        # stars, thick arrows
        or 0x1F000 <= c <= 0x1FBFF      # all pictographs, flags and skin tones
        or c == 0x2022 or c == 0x2023 or c == 0x2043 or c == 0x2139 or c == 0x3030 or c == 0x303D
        or c == 0xFE0E or c == 0xFE0F or c == 0x20E3  # variation selectors, and the frame of a key
        or 0xE0020 <= c <= 0xE007F      # tags of flags
        or 0xE000 <= c <= 0xF8FF        # private
    )


cdef inline bint is_box(Py_UCS4 c) noexcept:
    """Whether it stands in the box of a task."""
    return c == c" " or c == c"x" or c == c"X"


cdef inline bint ends_path(Py_UCS4 c) noexcept:
    """Whether an address in a text ends before it."""
    return (
        c == 0 or is_blank(c) or c == c"<" or c == c">" or c == c'"' or c == c")" or c == c"]" or c == c"*"
        or c == c"|" or c == c"`" or follows_closely(c) or c > 0x2000
    )


cdef inline bint any_of(Chars* chars, Py_ssize_t begin, Py_ssize_t end, Py_UCS4 wanted) noexcept:
    """Whether a character is in a part of the text."""
    cdef Py_ssize_t j
    for j in range(begin, min(end, chars.size)):
        if chars.data[j] == wanted:
            return True
    return False


cdef frozenset BREAKS = frozenset(
    "address article aside blockquote body br caption center dd details dialog div dl dt fieldset figcaption figure"
    " footer form h1 h2 h3 h4 h5 h6 head header hr html legend li main menu nav ol option p pre section summary table"
    " tbody tfoot thead title tr ul".split()
)
cdef frozenset CELLS = frozenset(("td", "th"))
cdef frozenset HIDING = frozenset(("think", "thinking", "reasoning", "script", "style", "tool_call"))
# Behind a word, "<" begins one of these, or it is a sign: "List<String>".
cdef frozenset TAGS = BREAKS | CELLS | HIDING | frozenset(
    "a abbr area audio b base bdi bdo big button canvas cite code col colgroup data datalist del dfn em embed emphasis"
    " font hgroup i iframe img input ins kbd label link map mark math meta meter noscript object optgroup output param"
    " phoneme picture progress prosody q rp rt ruby s samp search select slot small source span strike strong sub sup"
    " svg template textarea time track tt u var video voice wbr".split()
)
# Of models and of speech markup. Other words in angles are spoken: "press <enter>".
cdef frozenset MODEL_TAGS = TAGS | frozenset(
    "analysis answer assistant break final reflection response result say-as scratchpad speak thought".split()
)
# Attributes without a value: "a<b and c>d" has none, and is no tag.
cdef frozenset FLAGS = frozenset(
    "allowfullscreen async autofocus autoplay checked controls default defer disabled hidden loop multiple muted"
    " nomodule novalidate open readonly required reversed selected".split()
)
# A half attribute at the end of the text begins one of these.
cdef tuple ATTRIBUTES = (*FLAGS, *"align alt aria- class color data- height href id lang name rel src style target title"
                         " type value width".split())
# Behind these, figures in brackets are a key or the sentence needs them: "press [1]", "as in [2]".
cdef frozenset KEYS = frozenset(
    "press presses pressing pressed dial dialing choose choosing select selecting enter type hit push tap touch pick say"
    " key keys button buttons option options number digit item choice menu step line extension"
    " drücke drücken wähle wählen taste option nummer tippe tippen appuyez tapez composez touche pulse presione marque"
    " oprima tecla opción".split()
)
cdef frozenset NEED_NOUN = frozenset(
    "a an the and or then either than in of by to from with for on at as is are via see per und oder dann in von mit"
    " et ou puis y o".split()
)
# Names before the brackets of an index; behind other words they are sources.
cdef frozenset ARRAYS = frozenset("arr args argv buf df idx lst nums str tmp vec xs ys".split())
cdef frozenset SEE = frozenset(
    ("", "see", "see also", "cf", "source", "sources", "ref", "refs", "e.g", "siehe", "vgl", "quelle", "quellen", "voir")
)
