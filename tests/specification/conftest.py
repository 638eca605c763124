"""The application over HTTP, as the tests of the API have it."""

from tests.api.conftest import client, key_with, served

__all__ = ["client", "key_with", "served"]
