"""The short form of claims in replication.yaml, expanded to the long form of `claims`.

A claim, its tests and its variants share these keys; a test takes from its claim what it does not say itself:

    metric      `test_error`, `train_loss at 0.4`, `lost_updates over 0.9 to 1`, `max gradient_norm over 0 to 1`,
                `log weight_norm at 0.5`, `train_loss at 0.5 < 0.05` (1 or 0 for each run), `hessian_trace when
                train_loss = 0.02`, or the difference of two of these: `validation_loss - train_loss`
    among       parameters that select the runs; merged over the claim's
    contrast    `{weight_decay: [0.1, 0]}`: the first value minus the second. Two axes make a difference of differences.
    compare, against    the same for two selections that differ in more than one axis
    expect      `below 0.005`, `above 0.005` or `within 0.01`: the direction and the smallest effect that matters.
                `above 0.5 of seeds` tests a proportion.
    terms       any weighted sum, where no contrast can express it
    name, reference, best_by, best_among, slope_over, slope_scale, optimum_over, optimum_among,
                in_terms_of    as in `claims.Test`

`preconditions` have a name, a metric, among, contrast and expect (`below 0.05`), and take only `among` from their
claim.

A test that gives its `direction` is in the long form already, and is left as it is.
"""

from __future__ import annotations

import re
from typing import Any

_KEPT = ("name", "reference", "best_among", "slope_over", "slope_scale", "optimum_over", "optimum_among", "in_terms_of")
"""keys that both forms have"""
TEST_KEYS = frozenset((*_KEPT, "metric", "among", "contrast", "compare", "against", "expect", "terms", "best_by"))
_NUMBER = r"\d*\.?\d+(?:[eE][-+]?\d+)?"
_METRIC = re.compile(
    rf"(?P<log>log )?(?:(?P<reduce>mean|min|max|slope) )?(?P<name>[A-Za-z_][\w.]*)"
    rf"(?: at (?P<at>{_NUMBER})| over (?P<low>{_NUMBER}) to (?P<high>{_NUMBER})"
    rf"| when (?P<other>[A-Za-z_][\w.]*) = (?P<level>{_NUMBER}))?(?: < (?P<below>{_NUMBER}))?"
)
_EXPECT = re.compile(rf"(?P<direction>above|below|within) (?P<effect>{_NUMBER})(?P<seeds> of seeds)?")


class ShortFormError(ValueError):
    """A claim that cannot be expanded. `key` is where, below the claim."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}" if key else message)
        self.key = key


def expand_claim(claim: Any, defaults: dict[str, Any], variants: dict[str, Any]) -> Any:
    """A claim in the long form; what is no mapping is returned as it is, for the schema to refuse.

    Args:
        defaults: keys that the file gives to every claim.
        variants: the file's variants by name, which a claim's `also` may name.

    Raises:
        ShortFormError: naming the key and what was expected.
    """
    if not isinstance(claim, dict):
        return claim
    claim = _inherit(defaults, claim)
    shared = {key: claim[key] for key in TEST_KEYS & claim.keys()}
    rest = {key: value for key, value in claim.items() if key not in TEST_KEYS}
    own = rest.pop("tests", None)
    if own is None:
        tests = [shared]
    else:
        given = [_mapping(test, f"tests.{i}") for i, test in enumerate(_list(own, "tests"))]
        tests = [test if "direction" in test else _inherit(shared, test) for test in given]
    expanded = [_test(test, f"tests.{i}" if own is not None else "") for i, test in enumerate(tests)]
    also = []
    for i, variant in enumerate(_list(rest.pop("also", []), "also")):
        key = f"also.{i}"
        if isinstance(variant, str):
            if variant not in variants:
                raise ShortFormError(key, f"expected one of {', '.join(variants) or 'no variants'}, got {variant!r}")
            variant = variants[variant]
        also.append(_variant(_mapping(variant, key), shared, tests, key))
    if rest.get("preconditions"):
        conditions = enumerate(_list(rest["preconditions"], "preconditions"))
        rest["preconditions"] = [_precondition(condition, shared, f"preconditions.{i}") for i, condition in conditions]
    return rest | {"tests": expanded} | ({"also": also} if also else {})


def _precondition(condition: Any, shared: dict[str, Any], key: str) -> dict[str, Any]:
    given = _mapping(condition, key)
    for name in given:
        if name not in ("name", "metric", "among", "contrast", "expect"):
            raise ShortFormError(f"{key}.{name}", "unknown key, expected one of name, metric, among, contrast, expect")
    test = _test(_inherit({"among": shared.get("among", {})}, given), key)
    if test["direction"] == "within" or "terms" in test or "kind" in test:
        raise ShortFormError(f"{key}.expect", f"expected one metric, above or below a number, got {given['expect']!r}")
    return {
        "name": given.get("name"),
        "metric": test["metric"],
        "arm": test["arm"],
        "minus": test.get("minus"),
        "direction": test["direction"],
        "threshold": test["smallest_effect"],
    }


def _variant(variant: dict[str, Any], shared: dict[str, Any], tests: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """A variant is another selection in every arm (`arm`), one test of its own (with `expect`), or else the claim's
    tests with other keys."""
    changes = {name: value for name, value in variant.items() if name in TEST_KEYS}
    rest = {name: value for name, value in variant.items() if name not in TEST_KEYS}
    if not changes:
        return rest
    if "arm" in rest or "tests" in rest:
        raise ShortFormError(key, f"{next(iter(changes))}: not beside `arm`; expected one or the other")
    made = [_inherit(shared, changes)] if "expect" in changes else [_inherit(test, changes) for test in tests]
    return rest | {"tests": [_test(test, key) for test in made]}


def _inherit(test: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` over `test`; selections are merged, and a null removes a key from either."""
    merged = test | changes
    if isinstance(test.get("among"), dict) and isinstance(changes.get("among"), dict):
        both = test["among"] | changes["among"]
        merged["among"] = {key: value for key, value in both.items() if value is not None}
    return {key: value for key, value in merged.items() if value is not None}


def _test(test: dict[str, Any], where: str) -> dict[str, Any]:
    def error(key: str, message: str) -> ShortFormError:
        return ShortFormError(".".join(filter(None, (where, key))), message)

    if "direction" in test:
        return test
    for key in ("metric", "expect"):
        if key not in test:
            raise error(key, "this key is required")
    for key in test:
        if key not in TEST_KEYS:
            raise error(key, f"unknown key, expected one of {', '.join(sorted(TEST_KEYS))}")
    expect = _EXPECT.fullmatch(str(test["expect"]))
    if expect is None:
        raise error("expect", f"expected above, below or within and a number (`below 0.005`), got {test['expect']!r}")
    operands = [_metric(text, lambda message: error("metric", message)) for text in _operands(test["metric"])]
    value: dict[str, Any] = {key: test[key] for key in _KEPT if key in test}
    if "best_by" in test:
        value["best_by"] = _metric(test["best_by"], lambda message: error("best_by", message))
    value |= {"direction": expect["direction"], "smallest_effect": float(expect["effect"])}
    if expect["seeds"]:
        value["kind"] = "proportion"
    arms = _arms(test, error)
    if "terms" in test:
        return value | {"metric": operands[0], "terms": _terms(test, arms, error)}
    if len(operands) == 1 and len(arms) <= 2:
        return value | {"metric": operands[0], "arm": arms[0][0]} | ({"minus": arms[1][0]} if len(arms) == 2 else {})
    # of a difference, the test bears the name of the first metric, wherever in the run it is read
    metric = {key: item for key, item in operands[0].items() if key in ("name", "log")}
    return value | {
        "metric": metric,
        "terms": [
            {"arm": arm, "weight": sign * weight} | ({} if operand == metric else {"metric": operand})
            for arm, sign in arms
            for operand, weight in zip(operands, (1.0, -1.0), strict=False)
        ],
    }


def _arms(test: dict[str, Any], error: Any) -> list[tuple[dict[str, Any], float]]:
    """Selections with their signs: one arm, two of a contrast, or four of a difference of differences."""
    among = test.get("among", {})
    if not isinstance(among, dict):
        raise error("among", f"expected a mapping of parameters, got {among!r}")
    arms = [(among, 1.0)]
    if ("compare" in test) != ("against" in test):
        raise error("compare" if "compare" in test else "against", "compare and against go together")
    if "compare" in test:
        for key in ("compare", "against"):
            if not isinstance(test[key], dict):
                raise error(key, f"expected a mapping of parameters, got {test[key]!r}")
        arms = [(among | test["compare"], 1.0), (among | test["against"], -1.0)]
    contrast = test.get("contrast", {})
    if not isinstance(contrast, dict):
        raise error("contrast", f"expected {{axis: [value, other]}}, got {contrast!r}")
    for axis, values in contrast.items():
        if not isinstance(values, list) or len(values) != 2:
            raise error(f"contrast.{axis}", f"expected two values, got {values!r}")
        arms = [
            (arm | {axis: value}, sign * part)
            for arm, sign in arms
            for value, part in zip(values, (1, -1), strict=True)
        ]
    if len(arms) > 4:
        raise error("contrast", "expected at most two axes")
    return arms


def _terms(test: dict[str, Any], arms: list[tuple[dict[str, Any], float]], error: Any) -> list[dict[str, Any]]:
    if len(arms) > 1:
        raise error("terms", "not beside a contrast; expected one or the other")
    terms = []
    for i, term in enumerate(_list(test["terms"], "terms")):
        if not isinstance(term, dict) or not term.keys() <= {"among", "weight", "metric"}:
            raise error(f"terms.{i}", f"expected among, weight and metric, got {term!r}")
        value: dict[str, Any] = {"arm": arms[0][0] | term.get("among", {})}
        if "weight" in term:
            value["weight"] = term["weight"]
        if "metric" in term:
            value["metric"] = _metric(term["metric"], lambda message, i=i: error(f"terms.{i}.metric", message))
        terms.append(value)
    return terms


def _operands(metric: Any) -> list[Any]:
    return metric.split(" - ") if isinstance(metric, str) else [metric]


def _metric(text: Any, error: Any) -> dict[str, Any]:
    found = _METRIC.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise error(f"expected a metric such as `train_loss at 0.5` or `log weight_norm over 0.4 to 0.5`, got {text!r}")
    metric: dict[str, Any] = {"name": found["name"]}
    if found["log"]:
        metric["log"] = True
    if found["reduce"]:
        metric["reduce"] = found["reduce"]
    if found["at"]:
        metric["at"] = float(found["at"])
    if found["low"]:
        metric["over"] = [float(found["low"]), float(found["high"])]
    if found["other"]:
        metric["when"] = [found["other"], float(found["level"])]
    if found["below"]:
        metric["below"] = float(found["below"])
    if found["reduce"] and not found["low"]:
        raise error(f"{found['reduce']} needs `over`, got {text!r}")
    return metric


def _mapping(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ShortFormError(key, f"expected a mapping of keys, got {value!r}")
    return value


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list):
        raise ShortFormError(key, f"expected a list, got {value!r}")
    return value
