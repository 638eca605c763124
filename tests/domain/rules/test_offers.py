"""Models and prices: what changed, once it has stood still."""

from domain.policy import SearchSpace
from domain.pricing import token_prices
from domain.rules.offers import SETTLED_MS, Noticed, Offers, is_settled, news, notice, offers

AT = 1_760_000_000_000
OLD: Offers = {"openai/gpt-4o": [2.5, 10.0, 0.0]}
NEW: Offers = {"openai/gpt-4o": [2.0, 10.0, 0.0], "x/y": None}


def test_prices_of_the_list_and_of_the_policy() -> None:
    space = SearchSpace.model_validate(
        {
            "models": [
                {"provider": "openai", "model": "gpt-4o"},
                {"provider": "openai", "model": "gpt-4o-mini", "pricePerMTokIn": 1, "pricePerMTokOut": 2},
                {"provider": "nobody", "model": "knows"},
            ]
        }
    )
    listed = token_prices("openai", "gpt-4o", None, AT)
    assert listed is not None
    assert offers(space, AT) == {
        "nobody/knows": None,
        "openai/gpt-4o": [round(1e6 * listed.input, 6), round(1e6 * listed.output, 6), 0.0],
        "openai/gpt-4o-mini": [1.0, 2.0, 0.0],
    }


def test_a_price_that_differs_by_the_hour_does_not_change() -> None:
    space = SearchSpace.model_validate({"models": [{"provider": "deepseek", "model": "deepseek-chat"}]})
    hours = [offers(space, AT // 86_400_000 * 86_400_000 + hour * 3_600_000) for hour in range(24)]
    by_hour = [token_prices("deepseek", "deepseek-chat", None, AT + hour * 3_600_000) for hour in range(24)]
    assert all(found == hours[0] for found in hours)
    assert hours[0]["deepseek/deepseek-chat"] is not None
    assert by_hour[0] is not None


def test_the_first_look_sees_nothing_new() -> None:
    assert notice(None, OLD, AT) == Noticed(OLD)
    assert news(Noticed(OLD), AT) is None


def test_a_change_is_news_once_it_has_stood_for_two_minutes() -> None:
    seen = notice(Noticed(OLD), NEW, AT)
    assert seen == Noticed(OLD, NEW, AT)
    assert news(seen, AT + SETTLED_MS - 1) is None
    assert notice(seen, NEW, AT + 60_000) == seen
    assert news(seen, AT + SETTLED_MS) == (
        "new model x/y at an unknown price; "
        "price of openai/gpt-4o from $2.5/$10 per million tokens to $2/$10 per million tokens"
    )


def test_each_further_change_starts_the_wait_anew() -> None:
    seen = notice(Noticed(OLD), NEW, AT)
    again = notice(seen, {**NEW, "z/z": None}, AT + SETTLED_MS - 1)
    assert again.since == AT + SETTLED_MS - 1
    assert news(again, AT + SETTLED_MS) is None


def test_a_change_that_is_taken_back_was_none() -> None:
    seen = notice(Noticed(OLD), NEW, AT)
    assert notice(seen, OLD, AT + 60_000) == Noticed(OLD)


def test_a_model_less_is_nothing_to_act_on_but_is_known() -> None:
    seen = notice(Noticed(NEW), {"x/y": None}, AT)
    assert news(seen, AT + SETTLED_MS) is None
    assert is_settled(seen, AT + SETTLED_MS)
    assert not is_settled(seen, AT + SETTLED_MS - 1)
