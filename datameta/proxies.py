"""Who really asks, where proxies stand before the portal.

The rule this module guards: an address is believed only from whom the site trusts (setting ``trusted_proxies``).
Each proxy adds the address that it was asked from at the right of ``X-Forwarded-For``; read from there, the first
that is not a trusted proxy's is the client's. What stands left of it the client may have written itself. From
everybody else these headers are taken away.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

HEADERS = ("FOR", "PROTO", "HOST", "PORT", "BY")


def trust_proxies(app: Any, trusted: Sequence[Network]) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    """Return a WSGI application that sees each request as it came to the outermost trusted proxy."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        said = {name: environ.pop(f"HTTP_X_FORWARDED_{name}", "") for name in HEADERS}
        # No proxy that the documentation names writes it, and two headers could contradict each other.
        environ.pop("HTTP_FORWARDED", None)
        peer = parse_address(environ.get("REMOTE_ADDR", ""))
        if peer is not None and is_trusted(peer, trusted):
            environ["REMOTE_ADDR"] = str(find_client(peer, said["FOR"], trusted))
            if said["PROTO"] in ("http", "https"):
                environ["wsgi.url_scheme"] = said["PROTO"]
        answered: Iterable[bytes] = app(environ, start_response)
        return answered

    return answer


def find_client(peer: Address, forwarded_for: str, trusted: Sequence[Network]) -> Address:
    """Return the right-most address that is not a trusted proxy's; where all are, the left-most."""
    client = peer
    for hop in reversed(forwarded_for.split(",")):
        # What is no address no trusted proxy has written: the last that is known for sure counts.
        address = parse_address(hop)
        if not is_trusted(client, trusted) or address is None:
            break
        client = address
    return client


@lru_cache(maxsize=1024)
def parse_address(text: str) -> Address | None:
    """Return an IP address, written with or without a port, or None."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # A zone is the sender's own word, of any length.
        return None if address.scope_id else address.ipv4_mapped or address
    return address


def is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    """Say whether an address is that of a proxy the site trusts."""
    return any(address in network for network in trusted)
