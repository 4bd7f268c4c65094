"""Which addresses a notice may be sent to: whoever writes a pipeline must not reach what only this machine can.

Link-local addresses and those of clouds' metadata, multicast and unspecified ones are refused always; loopback and
private networks unless the daemon's own configuration allows them. A name is resolved once, every address that it has
is judged, and the connection goes to one of these: what the name means a moment later does not matter.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

import anyio

from flowd.ports.notifier import Undelivered

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"),
    )
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_THIS: Final = (ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("240.0.0.0/4"))
_PATIENCE_S: Final = 15.0


class Allowed:
    """What the configuration lets notices be sent to besides the public internet.

    `names` are networks (`10.0.0.0/8`), addresses, or names of hosts. ValueError names one that is none of these.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._hosts = set[str]()
        for name in names:
            try:
                self._networks.append(ipaddress.ip_network(name.strip("[]")))
            except ValueError:
                if "/" in name or ":" in name or not name.strip():
                    raise ValueError(
                        f"{name!r} is no network; write 10.0.0.0/8, an address or a host's name, without a port"
                    ) from None
                self._hosts.add(_plain(name))

    def refusal(self, host: str, address: str) -> str:
        """Why `address`, which `host` stands for, is not sent to; empty where it may be."""
        found = ipaddress.ip_address(address.partition("%")[0])
        for one in (found, *_within(found)):
            if kind := _never(one):
                return f"{host} is {_said(found)}, {kind}, which notices are never sent to"
            if not _is_public(one) and not self._is_allowed(host, one):
                kind = "a loopback address" if one.is_loopback else "an address of a private network"
                return (
                    f"{host} is {_said(found)}, {kind}; "
                    f"where it may be told, add {_plain(host)} to `private` in flowd.yaml"
                )
        return ""

    def _is_allowed(self, host: str, address: Address) -> bool:
        return _plain(host) in self._hosts or any(address in network for network in self._networks)


def _is_public(address: Address) -> bool:
    """Whether it is an address of the internet; a site's own ones of old are none, though Python says so."""
    return address.is_global and not (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _said(address: Address) -> str:
    return str(address)


def _within(address: Address) -> list[Address]:
    """The addresses that an IPv6 address stands for, by any of the ways in which one may hold another."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [one for one in found if one is not None]


def _never(address: Address) -> str:
    """What kind of an address it is that no configuration allows; empty where it is of no such kind."""
    if address in _METADATA:
        return "the metadata service of a cloud"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or any(address in network for network in _THIS):
        return "no address of a host"
    return ""


async def resolve(host: str, port: int, allowed: Allowed) -> list[str]:
    """The addresses of a host, in the order in which they are to be tried. Undelivered where one may not be."""
    try:
        with anyio.fail_after(_PATIENCE_S):
            found = await anyio.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise Undelivered(f"the name {host} was not resolved within {_PATIENCE_S:g}s") from None
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no name of a host"
        raise Undelivered(f"the name {host} cannot be resolved: {why}") from None
    addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
    for address in addresses:
        if refused := allowed.refusal(host, address):
            raise Undelivered(refused, for_good=True)
    if not addresses:
        raise Undelivered(f"the name {host} has no address")
    return addresses


__all__ = ["Allowed", "resolve"]
