"""A Cast to a type that holds every value need not be made."""

import pytest

from kit import assert_declines, assert_rewrites, model
from onnxslim.ir import Model
from onnxslim.passes.simplify.merge_casts import MergeCasts

MERGE = MergeCasts()
TYPES = {
    "float": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "string": 8, "bool": 9, "float16": 10, "double": 11, "uint32": 12, "uint64": 13,
}  # fmt: skip


def casts(first: str, second: str, third: str) -> Model:
    return model(f"""g ({first}[N] x) => ({third}[N] y) {{
        a = Cast<to = {TYPES[second]}>(x) b = Cast<to = {TYPES[third]}>(a) y = Identity(b) }}""")


@pytest.mark.parametrize(
    "kinds",
    ["float16 float double", "int32 int64 float", "int32 double float", "bool float int64",
     "uint8 float16 int32", "int16 int32 bool", "uint32 int64 float", "float double int32"],
)  # fmt: skip
def test_by_way_of_a_wider_type(kinds: str) -> None:
    assert_rewrites(casts(*kinds.split()), MERGE, ["Cast", "Identity"])


@pytest.mark.parametrize("kinds", ["float16 float", "int32 int64", "int32 double", "bool uint8"])
def test_there_and_back(kinds: str) -> None:
    first, second = kinds.split()
    assert_rewrites(casts(first, second, first), MERGE, ["Identity"])


@pytest.mark.parametrize(
    "kinds",
    ["float float16 float", "int64 int32 int64", "int64 double float", "int32 float double",
     "int8 uint8 int32", "uint64 int64 float", "int16 float16 float", "float bool float"],
)  # fmt: skip
def test_by_way_of_a_narrower_type(kinds: str) -> None:
    assert_declines(casts(*kinds.split()), MERGE)


def test_text_shows_the_type_between() -> None:
    assert_declines(casts("int16", "float", "string"), MERGE)


def test_a_type_that_is_not_known() -> None:
    before = model("""g (float16[N] x) => (double[N] y) { y = local.F(x) }
    <domain: "local", opset_import: ["" : 20]> F (p) => (q) { a = Cast<to = 1>(p) q = Cast<to =
        11>(a) }""")
    assert_declines(before, MERGE)


def test_a_cast_that_others_read() -> None:
    before = model("""g (float16[N] x) => (double[N] y, float[N] z) {
        a = Cast<to = 1>(x) y = Cast<to = 11>(a) z = Relu(a) }""")
    assert_declines(before, MERGE, "no node would go")


def test_a_cast_that_others_read_undone() -> None:
    before = model("""g (float16[N] x) => (float16[N] y, float[N] z) {
        a = Cast<to = 1>(x) b = Cast<to = 10>(a) y = Neg(b) z = Relu(a) }""")
    assert_rewrites(before, MERGE, ["Cast", "Neg", "Relu"])
