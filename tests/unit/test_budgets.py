"""What a call takes of a sum: never less than it names, and what cannot be counted is no nothing."""

from decimal import Decimal

import pytest

from remit.logic.budgets import amount_of
from remit.model.budget import SumBudget

MAILS = "Ann <ann@a.org>, Bob <bob@b.org>, Cyd <cyd@c.org>"


def amount(argument: str, arguments: object, *, counted: bool = False) -> Decimal:
    budget = SumBudget(name="sum", tool="bank/*", argument=argument, maximum=Decimal(10), counted=counted)
    return amount_of(budget, arguments)


@pytest.mark.parametrize(
    ("argument", "arguments", "expected"),
    [
        ("/amount", {"amount": 3}, 3),
        ("/amount", {"amount": "3"}, 3),
        ("/amount", {"amount": [1, 2, "4"]}, 7),
        ("/amount", {}, 0),
        ("/payment/amount", {"payment": None}, 0),
        ("/payment/amount", {"payment": {"amount": 3}}, 3),
        ("/payments/amount", {"payments": [{"amount": 900}, {"amount": 1}]}, 901),
        ("/payments/*/amount", {"payments": [{"amount": 900}, {"amount": 1}]}, 901),
        ("/payments/amount", {"payments": [[{"amount": 900}], {}]}, 900),
        ("/payments/1/amount", {"payments": [{"amount": 900}, {"amount": 1}]}, 1),
        ("/a~1b", {"a/b": 5}, 5),
    ],
)
def test_an_amount_is_counted_wherever_it_stands(argument, arguments, expected):
    assert amount(argument, arguments) == expected


@pytest.mark.parametrize("payment", ["900", 900, True])
def test_what_does_not_stand_where_it_is_looked_for_is_not_nothing(payment):
    with pytest.raises(ValueError, match="where the budget looks"):
        amount("/payment/amount", {"payment": payment})


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, 0),
        ([], 0),
        (["a@a.org", "b@b.org"], 2),
        ("a@a.org", 1),
        ("a@a.org b@b.org", 2),
        ("a@a.org;b@b.org,\nc@c.org", 3),
        (MAILS, 3),
        ("Ann ann@a.org Bob bob@b.org", 2),
        ("Ann; Bob; Cyd", 3),
        ("two words", 1),
    ],
)
def test_elements_are_counted_also_where_a_text_names_several(named, expected):
    assert amount("/to", {"to": named}, counted=True) == expected


def test_elements_of_every_list_on_the_way_are_counted():
    assert amount("/mails/to", {"mails": [{"to": MAILS}, {"to": ["a@a.org"]}]}, counted=True) == 4
