"""What the interfaces of providers take; a provider not named here takes all that an LLMConfig can say."""

MAX_TEMPERATURE = {"anthropic": 1.0, "mistral": 1.5}
NO_TOP_K = frozenset({"openai", "azure", "mistral", "x-ai", "x_ai", "deepseek"})


def max_temperature(provider: str) -> float:
    """The highest temperature that a provider takes."""
    return MAX_TEMPERATURE.get(provider.lower(), 2.0)


def takes_top_k(provider: str) -> bool:
    """Whether a provider's chat interface has topK."""
    return provider.lower() not in NO_TOP_K
