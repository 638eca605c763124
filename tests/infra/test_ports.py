import socket

from infra.ports import choose, is_free


def test_the_preferred_port_is_chosen_unless_it_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not is_free(port)
        instead = choose(port)
        assert instead != port
        assert is_free(instead)
    assert choose(port) == port
