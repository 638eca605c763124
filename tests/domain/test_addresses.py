"""Which URLs a webhook may have, and which addresses are the internet's."""

from ipaddress import ip_address

import pytest

from domain.addresses import host_of, is_public, names_private_host, require_http_url


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/webhooks/optimizer",
        "http://example.com:8080?a=b%20c",
        "HTTPS://example.com",
        "http://[2606:4700::1111]/",
        "http://under_score.internal/",
    ],
)
def test_an_http_url_is_taken_as_it_is(url: str) -> None:
    assert require_http_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "ftp://example.com",
        "file:///etc/passwd",
        "http://",
        "http:///hook",
        "http://user:password@example.com",
        "http://user@example.com",
        "http://example.com\\@127.0.0.1/",
        "http://example.com/#part",
        "http://example.com/#",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:port/",
        "http://exa mple.com/",
        "http://example.com/\r\nHost: other",
        "http://exämple.com/",
        "http://[::1",
        "http://[v1.x]/",
        "http://exa<mple/",
        f"http://example.com/{'x' * 2048}",
    ],
)
def test_no_other_url_is_taken(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        require_http_url(url)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_of_the_internet(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1"),
        *("2002:7f00:1::", "2001::1"),
    ],
)
def test_an_address_that_is_not(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://localhost", True),
        ("http://LOCALHOST.:80", True),
        ("http://a.localhost/", True),
        ("http://127.0.0.1/", True),
        ("http://127.1/", True),
        ("http://2130706433/", True),
        ("http://0x7f000001/", True),
        ("http://0/", True),
        ("http://[::1]/", True),
        ("http://[::ffff:10.0.0.1]/", True),
        ("http://169.254.169.254/latest/meta-data", True),
        ("http://example.com/", False),
        ("http://notlocalhost/", False),
        ("http://8.8.8.8/", False),
    ],
)
def test_a_private_host_is_known_by_its_name(url: str, private: bool) -> None:
    assert names_private_host(require_http_url(url)) is private


def test_the_host_of_a_url() -> None:
    assert host_of("https://API.example.com:8443/hook?key=1") == "api.example.com"
