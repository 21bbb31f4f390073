"""Integers that only a run tells, in a form in which equal ones are seen to be equal.

An expression is an ``int`` or a `Sym`: a polynomial over *atoms* with its terms in a fixed order.
An atom is a name (the dimension of an input), something unknown, or a function that has no
polynomial form: ``floor(n/d)``, ``max(0, x)``, the common extent of broadcast dimensions. Functions
of the same arguments are the same atom; an unknown is equal to nothing but itself. Minimum, maximum
and remainder are written with these, so that there is one way to write each.

Two expressions that compare equal are equal in every run; the reverse does not hold.
Source: Geddes, Czapor, Labahn, Algorithms for Computer Algebra, chapter 3 (normal forms).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction

Number = int | Fraction
Monomial = tuple["Atom", ...]
"""Factors in order, repeated for powers."""

_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.@]*")
MOST_TERMS = 24
"""Larger polynomials are given up, so that reasoning stays linear in the size of the model."""
LONGEST = 400
"""So are expressions whose text is longer than this."""

_MOST_COMPARED = 8


class Atom:
    """An indivisible part of an expression; equal texts mean equal atoms."""

    __slots__ = ("arguments", "function", "low", "text")

    def __init__(
        self,
        text: str,
        low: Number | None = 0,
        function: str = "",
        arguments: tuple[Expr, ...] = (),
    ) -> None:
        """Make an atom that is never below *low*; names and unknowns have no *function*."""
        self.text, self.low, self.function, self.arguments = text, low, function, arguments

    @property
    def is_name(self) -> bool:
        """Say whether this is the dimension of an input."""
        return not self.function and not self.text.startswith("?")

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Atom):
            return self is other
        same = self.text == other.text and self.low == other.low  # these may be of two models
        return same and self.arguments == other.arguments

    def __hash__(self) -> int:
        return hash(self.text)

    def __lt__(self, other: Atom) -> bool:
        return self.text < other.text


class Sym:
    """A polynomial that is no constant; add, subtract and multiply it like a number."""

    __slots__ = ("_hash", "_text", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, Number], ...]) -> None:
        """Hold *terms*, which are in order, without zero coefficients."""
        self.terms = terms
        self._hash: int | None = None
        self._text: str | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Sym) and self.terms == other.terms)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.terms)
        return self._hash

    def __str__(self) -> str:
        if self._text is None:
            self._text = _text(self)
        return self._text

    __repr__ = __str__

    def __add__(self, other: AnyExpr) -> Expr:
        terms = dict(self.terms)
        for monomial, coefficient in _terms(other):
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return _made(terms)

    __radd__ = __add__

    def __mul__(self, other: AnyExpr) -> Expr:
        terms: dict[Monomial, Number] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                product = tuple(sorted((*left, *right))) if left and right else left or right
                terms[product] = terms.get(product, 0) + a * b
        return _made(terms)

    __rmul__ = __mul__

    def __neg__(self) -> Expr:
        return self * -1

    def __sub__(self, other: AnyExpr) -> Expr:
        return self + other * -1

    def __rsub__(self, other: AnyExpr) -> Expr:
        return self * -1 + other  # type: ignore[return-value]

    def __floordiv__(self, other: Expr) -> Expr:
        return floor_div(self, other)

    def __rfloordiv__(self, other: int) -> Expr:
        return floor_div(other, self)

    @property
    def constant(self) -> Number:
        """The term without atoms."""
        return self.terms[-1][1] if not self.terms[-1][0] else 0


Expr = int | Sym
AnyExpr = int | Fraction | Sym


def name(text: str) -> Expr:
    """Return the non-negative number called *text*."""
    plain = _PLAIN_NAME.fullmatch(text) is not None
    return _atom(text if plain else "'" + text.replace("'", "''") + "'")


def unknown(number: int, low: int | None = 0) -> Expr:
    """Return the unknown that has *number*, never below *low*."""
    return _atom(f"?{number}", low)


@functools.lru_cache(maxsize=1 << 14)
def _atom(
    text: str, low: Number | None = 0, function: str = "", arguments: tuple[Expr, ...] = ()
) -> Sym:
    """Return the only expression of an atom, the same object where it is asked for again."""
    return single(Atom(text, low, function, arguments))


def single(atom: Atom) -> Sym:
    """Return the expression that is *atom* alone."""
    return Sym((((atom,), 1),))


def _terms(value: AnyExpr) -> Iterable[tuple[Monomial, Number]]:
    if isinstance(value, Sym):
        return value.terms
    return (((), value),) if value else ()


def _order(term: tuple[Monomial, Number]) -> tuple[int, Monomial]:
    return -len(term[0]), term[0]


def _made(terms: dict[Monomial, Number]) -> Expr:
    """Return the polynomial of *terms*, a plain number where no atom is left."""
    kept = [(m, _whole(c)) for m, c in terms.items() if c]
    if not kept:
        return 0
    if len(kept) == 1 and not kept[0][0]:
        return kept[0][1]  # type: ignore[return-value]  # Fractions: only in float arithmetic
    kept.sort(key=_order)
    return Sym(tuple(kept))


def _whole(value: Number) -> Number:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def _text(value: Sym) -> str:
    parts: list[str] = []
    for monomial, coefficient in value.terms:
        factors = [atom.text for atom in monomial]
        if abs(coefficient) != 1 or not factors:
            factors.insert(0, str(abs(coefficient)))
        sign = "-" if coefficient < 0 else "+"
        parts.append(f" {sign} " + "*".join(factors))
    text = "".join(parts)
    return text[3:] if text.startswith(" + ") else "-" + text[3:]


def is_large(value: AnyExpr) -> bool:
    """Say whether *value* is too large to go on with."""
    return isinstance(value, Sym) and (len(value.terms) > MOST_TERMS or len(str(value)) > LONGEST)


def is_vague(value: object) -> bool:
    """Say whether *value* is an expression in which an unknown occurs."""
    return isinstance(value, Sym) and "?" in str(value)


def simplicity(value: Expr) -> tuple[int, int, str]:
    """Return a key that sorts the simplest of several equal expressions to the front."""
    if isinstance(value, int):
        return 0, 0, ""
    text = str(value)
    return 1 + ("?" in text), len(text), text


def atoms(value: AnyExpr) -> set[Atom]:
    """Return the atoms of *value*, those inside functions included."""
    found: set[Atom] = set()
    stack = [value]
    while stack:
        for monomial, _ in _terms(stack.pop()):
            for atom in monomial:
                found.add(atom)
                stack.extend(atom.arguments)
    return found


def substitute(value: AnyExpr, instead: Mapping[Atom, Expr]) -> Expr:
    """Return *value* with what *instead* says in the place of atoms, inside functions too."""
    total: Expr = 0
    for monomial, coefficient in _terms(value):
        product: AnyExpr = coefficient
        for atom in monomial:
            product = product * _instead_of(atom, instead)
        total = total + product  # type: ignore[assignment]
    return total


def _instead_of(atom: Atom, instead: Mapping[Atom, Expr]) -> Expr:
    found = instead.get(atom)
    if found is not None:
        return found
    arguments = [substitute(argument, instead) for argument in atom.arguments]
    if arguments == list(atom.arguments):
        return single(atom)
    if atom.function == "floor":
        return floor_div(*arguments)
    return positive_part(*arguments) if atom.function == "max" else broadcast(arguments)


# Division -----------------------------------------------------------------------------------------


def divide(value: AnyExpr, by: AnyExpr) -> Expr | None:
    """Return the polynomial *q* with ``q * by == value``, or None where there is none."""
    if isinstance(by, int) and isinstance(value, int):
        return value // by if by and value % by == 0 else None
    quotient: Expr = 0
    divisor = list(_terms(by))
    if not divisor:
        return None
    (lead, factor), rest = divisor[0], value
    for _ in range(MOST_TERMS):
        terms = _terms(rest)
        first = next(iter(terms), None)
        if first is None:
            return quotient
        monomial = _without(first[0], lead)
        if monomial is None or first[1] % factor:
            return None
        step = _made({monomial: first[1] // factor})
        quotient, rest = quotient + step, rest - step * by
    return None


def _without(monomial: Monomial, factors: Monomial) -> Monomial | None:
    """Divide one monomial by another."""
    left = list(monomial)
    for atom in factors:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def floor_div(value: AnyExpr, by: Expr) -> Expr:
    """Return the quotient rounded down; *by* is not zero."""
    denominator = math.lcm(*(c.denominator for _, c in _terms(value)))
    if denominator > 1:
        value, by = value * denominator, by * denominator
    exact = divide(value, by)
    if exact is not None:
        return exact
    if isinstance(by, Sym):
        return _quotient(value, by)
    if by < 0:
        value, by = value * -1, -by
    whole = _made({m: c // by for m, c in _terms(value)})
    return whole + _proper_fraction(value - whole * by, by)


def _proper_fraction(value: AnyExpr, by: int) -> Expr:
    """Round ``value / by`` down, where every coefficient lies between 0 and *by*."""
    if not isinstance(value, Sym):
        return 0
    common = math.gcd(by, *(int(c) for m, c in value.terms if m))
    if common > 1:  # floor((g*a + c) / (g*b)) == floor((a + floor(c/g)) / b)
        value = _made({m: c // common for m, c in value.terms})
        return floor_div(value, by // common)
    (monomial, coefficient), *others = value.terms
    inner = monomial[0] if len(monomial) == 1 and coefficient == 1 else None
    if inner is not None and inner.function == "floor" and all(not m for m, _ in others):
        numerator, denominator = inner.arguments
        if isinstance(denominator, int):  # floor((floor(a/b) + c) / d) == floor((a + b*c) / (b*d))
            return floor_div(numerator + denominator * value.constant, denominator * by)
    return _quotient(value, by)


def _quotient(value: AnyExpr, by: Expr) -> Sym:
    low: Number | None = None
    least, smallest = lower(value), lower(by)
    if least is not None and smallest is not None and smallest > 0:
        if least >= 0:
            low = math.floor(Fraction(least) / by) if isinstance(by, int) else 0
        elif isinstance(by, int):
            low = math.floor(Fraction(least) / by)
    arguments: tuple[Expr, ...] = (value, by)  # type: ignore[assignment]
    return _atom(f"floor(({value})/({by}))", low, "floor", arguments)


def modulo(value: Expr, by: Expr) -> Expr:
    """Return the remainder of the division that rounds down; *by* is not zero."""
    return value - floor_div(value, by) * by


# Order --------------------------------------------------------------------------------------------


def positive_part(value: AnyExpr) -> Expr:
    """Return ``max(0, value)``."""
    if not isinstance(value, Sym):
        return max(0, value)  # type: ignore[return-value]
    least, most = lower(value), upper(value)
    if least is not None and least >= 0:
        return value
    if most is not None and most <= 0:
        return 0
    if value.terms[0][1] < 0:  # max(0, x) == max(0, -x) + x
        return positive_part(value * -1) + value
    common = math.gcd(*(int(c) for _, c in value.terms)) if _is_whole(value) else 1
    if common > 1:
        value = _made({m: c // common for m, c in value.terms})
    return _atom(f"max(0, {value})", 0, "max", (value,)) * common


def _is_whole(value: Sym) -> bool:
    return all(isinstance(c, int) for _, c in value.terms)


def minimum(left: AnyExpr, right: AnyExpr) -> Expr:
    """Return the smaller one."""
    return left - positive_part(left - right)  # type: ignore[return-value]


def maximum(left: AnyExpr, right: AnyExpr) -> Expr:
    """Return the larger one."""
    return right + positive_part(left - right)  # type: ignore[return-value]


def broadcast(dimensions: Iterable[Expr]) -> Expr:
    """Return the common extent of dimensions that are equal or 1.

    Two different unknown dimensions do not prove each other equal: either may be 1. But one that is
    never the larger one adds nothing.
    """
    return _common(tuple(dimensions))


@functools.lru_cache(maxsize=1 << 12)
def _common(dimensions: tuple[Expr, ...]) -> Expr:
    found: dict[Expr, None] = {}
    for dimension in dimensions:
        if not isinstance(dimension, int):
            found.update(dict.fromkeys(broadcast_parts(dimension)))
        elif dimension != 1:
            return dimension
    if len(found) <= 1:
        return next(iter(found), 1)
    arguments = sorted(_undominated(list(found)), key=str)
    if len(arguments) == 1:
        return arguments[0]
    low = min(lower(argument) or 0 for argument in arguments)
    text = ", ".join(map(str, arguments))
    return _atom(f"broadcast({text})", max(0, low), "broadcast", tuple(arguments))


def _undominated(dimensions: list[Expr]) -> list[Expr]:
    """Leave out dimensions that add nothing to another one."""
    for dimension in dimensions if len(dimensions) <= _MOST_COMPARED else ():
        others = [other for other in dimensions if other is not dimension]
        if any(_adds_nothing(dimension, other) for other in others):
            return _undominated(others)
    return dimensions


def _adds_nothing(dimension: Expr, other: Expr) -> bool:
    """Say whether *dimension* is never the larger one, nor 0 where *other* is 1."""
    if not is_at_least(other, dimension):
        return False
    never = is_at_least(dimension, 1) or is_at_least(other, 2)
    return never or divide(other, dimension) is not None


def broadcast_parts(dimension: Expr) -> tuple[Expr, ...]:
    """Return what *dimension* is the common extent of."""
    atom = only_atom(dimension) if isinstance(dimension, Sym) else None
    return atom.arguments if atom is not None and atom.function == "broadcast" else (dimension,)


def only_atom(value: Sym) -> Atom | None:
    """Return the atom that *value* consists of, if it is one."""
    (monomial, coefficient), *others = value.terms
    return monomial[0] if not others and coefficient == 1 and len(monomial) == 1 else None


def lower(value: AnyExpr, depth: int = 5) -> Number | None:
    """Return a number that *value* never falls below, or None where none is known."""
    return _lower(value, depth) if isinstance(value, Sym) else value


@functools.lru_cache(maxsize=1 << 14)
def _lower(value: Sym, depth: int) -> Number | None:
    bound = _termwise(value)
    if bound is not None or not depth:
        return bound
    cases = _weakened(value)
    if cases:
        bounds = [lower(case, depth - 1) for case in cases]
        known = [bound for bound in bounds if bound is not None]
        return min(known) if len(known) == len(bounds) else None
    bounds = [lower(case, depth - 1) for case in _relaxed(value)]
    return max((bound for bound in bounds if bound is not None), default=None)


def _termwise(value: Sym) -> Number | None:
    """Return the bound that follows from those of the atoms."""
    total: Number = 0
    for monomial, coefficient in value.terms:
        least = _least(monomial)
        if monomial and (coefficient < 0 or least is None):
            return None
        total += coefficient * (1 if least is None else least)
    return total


def _least(monomial: Monomial) -> Number | None:
    least: Number = 1
    for atom in monomial:
        if atom.low is None or (atom.low < 0 and len(monomial) > 1):
            return None
        least *= atom.low
    return least


def _weakened(value: Sym) -> list[AnyExpr]:
    """Return expressions of which *value* never falls below the least, without one function.

    ``max(0, x)`` is 0 or ``x``, and ``floor(n/d)`` at most ``n/d``; functions that are subtracted
    are replaced by these.
    """
    for atom, coefficient in _functions(value):
        if coefficient > 0:
            continue
        rest = value - single(atom) * coefficient
        if atom.function == "max":
            return [rest, rest + atom.arguments[0] * coefficient]
        if atom.function == "floor" and isinstance(atom.arguments[1], int):
            return [rest + atom.arguments[0] * Fraction(coefficient, atom.arguments[1])]
    return []


def _relaxed(value: Sym) -> Iterator[AnyExpr]:
    """Yield expressions that *value* never falls below: ``max(0, x)`` is at least ``x``."""
    for atom, coefficient in _functions(value):
        if coefficient > 0 and atom.function == "max":
            yield value + (atom.arguments[0] - single(atom)) * coefficient


def _functions(value: Sym) -> Iterator[tuple[Atom, Number]]:
    """Yield the functions that are terms of *value*, and their coefficients."""
    for monomial, coefficient in value.terms:
        if len(monomial) == 1 and monomial[0].function:
            yield monomial[0], coefficient


def upper(value: AnyExpr) -> Number | None:
    """Return a number that *value* never exceeds, or None where none is known."""
    bound = lower(value * -1)
    return None if bound is None else -bound


@functools.lru_cache(maxsize=1 << 14)
def is_at_least(left: AnyExpr, right: AnyExpr) -> bool:
    """Say whether *left* is never below *right*."""
    least = lower(left - right)
    return least is not None and least >= 0


def is_equal(left: AnyExpr, right: AnyExpr) -> bool | None:
    """Say whether two expressions are equal, None where it depends on the run."""
    if left == right:
        return True
    difference = left - right
    least, most = lower(difference), upper(difference)
    if (least is not None and least > 0) or (most is not None and most < 0):
        return False
    return None


def is_less(left: AnyExpr, right: AnyExpr) -> bool | None:
    """Say whether *left* is below *right*, None where it depends on the run."""
    difference = left - right
    least, most = lower(difference), upper(difference)
    if most is not None and most < 0:
        return True
    return False if least is not None and least >= 0 else None


# Evaluation ---------------------------------------------------------------------------------------


def evaluate(value: AnyExpr, look_up: Callable[[Atom], int]) -> Number:
    """Return the number that *value* is when *look_up* gives the names and unknowns theirs."""
    total: Number = 0
    for monomial, coefficient in _terms(value):
        product = coefficient
        for atom in monomial:
            product *= _evaluate_atom(atom, look_up)
        total += product
    return _whole(total)


def _evaluate_atom(atom: Atom, look_up: Callable[[Atom], int]) -> Number:
    if not atom.function:
        return look_up(atom)
    numbers = [evaluate(argument, look_up) for argument in atom.arguments]
    if atom.function == "floor":
        return math.floor(Fraction(numbers[0]) / Fraction(numbers[1]))
    if atom.function == "max":
        return max(0, numbers[0])
    extents = [number for number in numbers if number != 1]
    return extents[0] if extents else 1
