"""Read by every Python whose PYTHONPATH names this folder: connections beyond this machine fail, and are written down.

Works for any user on any system, and reaches the children of children. Code that opens sockets without Python's socket
module goes past it; for that test_offline.py also runs in a network namespace of its own, where the kernel allows it.
"""

import os
import sys

LOG = os.environ.get("LORACLE_TEST_NETWORK_LOG", "")
NAMES_AN_ADDRESS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
NAMES_A_HOST = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def is_local(host):
    host = host.decode() if isinstance(host, bytes) else host
    return host in (None, "", "localhost", "::1") or host.startswith("127.")


def barrier(event, arguments):
    if event in NAMES_AN_ADDRESS:
        address = arguments[1]
        if not isinstance(address, tuple):  # a Unix socket, or a datagram to a peer that connect has let through
            return
        host = address[0]
    elif event in NAMES_A_HOST:
        host = arguments[0]
    else:
        return
    if not is_local(host):
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(f"{event} {host} in {sys.argv}\n")
        raise OSError(f"no network in this test: {event} {host}")


if LOG:
    sys.addaudithook(barrier)
