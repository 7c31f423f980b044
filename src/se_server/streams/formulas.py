"""Formulas of TeX, as a voice reads them: in signs, without commands."""

from __future__ import annotations

import re

_SIGNS_AND_NAMES = """
× times   · cdot   ÷ div   ± pm   ∓ mp   * ast   * star   ~ sim   ≈ approx   ≡ equiv   ∝ propto
≤ le   ≤ leq   ≥ ge   ≥ geq   < lt   > gt   ≠ ne   ≠ neq   ∞ infty   ∂ partial   ∇ nabla   ∑ sum   ∏ prod   ∫ int
∪ cup   ∩ cap   ∈ in   ∉ notin   ⊂ subset   ∀ forall   ∃ exists   ∅ emptyset   ∖ setminus
α alpha   β beta   γ gamma   δ delta   ε epsilon   θ theta   λ lambda   μ mu   π pi   ρ rho   σ sigma   τ tau
φ phi   φ varphi   χ chi   ψ psi   ω omega   Γ Gamma   Δ Delta   Θ Theta   Λ Lambda   Π Pi   Σ Sigma   Φ Phi   Ψ Psi
Ω Omega   ° degree   ° circ   … ldots   … cdots   … dots   → to   → rightarrow   ⇒ Rightarrow   ⇒ implies
⟨ langle   ⟩ rangle   { lbrace   } rbrace
"""
_SIGNS = {name: sign for sign, name in (pair.split() for pair in re.split(r" {3}|\n", _SIGNS_AND_NAMES) if pair)}
_LOOKS = re.compile(
    "left|right|[bB]ig+[lr]?|displaystyle|math(rm|bf|bb|cal|it)|text(bf|it)?|operatorname|boxed|q?quad|limits"
    "|vec|hat|bar|tilde|ddot|dot|overline|underline|widehat|widetilde|overrightarrow|mathsf|nonumber|label"
)
_GROUP = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
_FRACTION = re.compile(r"\\[dt]?frac\s*" + _GROUP + r"\s*" + _GROUP)
_CHOICE = re.compile(r"\\[dt]?binom\s*" + _GROUP + r"\s*" + _GROUP)
_DEGREES = re.compile(r"\^\s*(?:\\circ|\{\s*\\circ\s*\})(?![A-Za-z])")
_EXPONENT = re.compile(r"\^\s*" + _GROUP)
_ROOT = re.compile(r"\\sqrt\s*" + _GROUP)
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{\w+\*?\}(?:\{[^{}]*\})?|(?<!\\)&")
_INDEX = re.compile(r"_\{?(?=[A-Za-z])")
_POWER = re.compile(r"\^(?:([23])(?![\d])|\{([23])\})")
_COMMAND = re.compile(r"\\([A-Za-z]+)|\\(.)|[{}_]", re.DOTALL)


def say_formula(tex: str) -> str:
    r"""Return a formula in the signs that a voice reads: `\frac{a}{b} \times x^2` is "a ÷ b × x²"."""
    tex = _POWER.sub(lambda found: "²" if "2" in found.groups() else "³", _ENVIRONMENT.sub(" ", tex))
    tex = _CHOICE.sub(lambda found: f"{_grouped(found[1])} choose {_grouped(found[2])}", _DEGREES.sub("°", tex))
    for _ in range(4):  # fractions within fractions
        tex, count = _FRACTION.subn(_say_fraction, tex)
        if not count:
            break
    tex = _EXPONENT.sub(lambda found: "^" + _grouped(found[1]), tex)
    tex = _ROOT.sub(lambda found: "√" + _grouped(found[1]), tex)
    tex = _COMMAND.sub(_say_command, _INDEX.sub(" ", tex))
    return " ".join(tex.split())


def _say_fraction(found: re.Match[str]) -> str:
    above, below = found.groups()
    if above.strip().isdecimal() and below.strip().isdecimal():
        return f"{above.strip()}/{below.strip()}"
    return f"{_grouped(above)} ÷ {_grouped(below)}"


def _grouped(part: str) -> str:
    return part if re.fullmatch(r"\s*[\w.]+\s*|\\[A-Za-z]+", part) else f"({part})"


def _say_command(found: re.Match[str]) -> str:
    name, sign = found.groups()
    if name is not None:
        return "" if _LOOKS.fullmatch(name) else _SIGNS.get(name, name)
    if sign is not None:
        return sign if sign in "%$&#_{}" else " "
    return ""
