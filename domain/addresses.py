"""Where a webhook may go: HTTP URLs, and addresses that belong to the internet at large."""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

MAX_URL = 2048
HTTP_URL_PATTERN = r'^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?([/?][!"$-\[\]-~]*)?$'
"""What such a URL looks like; `require_http_url` knows more."""
_PLAIN = re.compile(r"[\x21-\x7e]+\Z")
_HOST = re.compile(r"[A-Za-z0-9._-]+\Z")
# A translator turns these into the IPv4 address in their last 32 bits.
_NAT64 = IPv6Network("64:ff9b::/96")


def require_http_url(url: str) -> str:
    """The URL as it is.

    Raises:
        ValueError: it is not one of `http` or `https` with a host, or has a user name or a fragment.
    """
    if len(url) > MAX_URL:
        raise ValueError(f"must have at most {MAX_URL} characters")
    if not _PLAIN.match(url) or "\\" in url:
        raise ValueError("must be of printable ASCII characters; others are written percent-encoded")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password; use headers")
    if "#" in url:
        raise ValueError("must not have a fragment")
    if not parts.hostname or not _is_host(parts) or port == 0:
        raise ValueError("must name a host")
    return url


def host_of(url: str) -> str:
    """The host that a valid URL names."""
    return urlsplit(url).hostname or ""


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if "[" not in parts.netloc:
        return bool(_HOST.match(host))
    return isinstance(_literal(host), IPv6Address)


def names_private_host(url: str) -> bool:
    """Whether a URL names, without a look-up, what only this machine or network can reach."""
    host = host_of(url).rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    literal = _literal(host)
    return literal is not None and not is_public(literal)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is a host's in the internet, by whichever notation an IPv4 address is reached."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.sixtofour or address.teredo or address.is_site_local or address.scope_id:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is written as; also as `2130706433` or `0x7f.1`, which resolvers accept."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None
