"""`dpuchain-cni`: a CNI plugin (specification 1.1.0) that hands each call to the agent's socket and prints what comes back.

To be run as `python3 -IS plugin.py`: without site packages it is done in some 10 ms. The agent's socket is DPUCHAIN_CNI_SOCKET, or
/run/dpuchain/cni.sock. A call is the variables of `ENVIRONMENT` and the standard input, with a zero byte between them; the answer is the
exit status, a line feed, and what is to be printed.
"""

import os
import sys

# The C module behind `socket`, and `json` only where something went wrong: both import `re` and `enum`, and take as long as all the rest.
from _socket import AF_UNIX, SHUT_WR, SOCK_STREAM, socket

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = VERSIONS[-1]
ENVIRONMENT = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")
SOCKET = "/run/dpuchain/cni.sock"
ANSWER_SECONDS = 60.0
# Error codes of the specification, section 5.
TRY_AGAIN, UNAVAILABLE = 11, 50


def main() -> None:
    """Answer one call: the result on standard output and status 0, or an error object and status 1."""
    command = os.environ.get("CNI_COMMAND", "")
    if command == "VERSION":
        supported = '", "'.join(VERSIONS)
        print_text(f'{{"cniVersion": "{NEWEST}", "supportedVersions": ["{supported}"]}}\n'.encode())
        return
    fields = [os.environb.get(name.encode(), b"") for name in ENVIRONMENT]
    path = os.environ.get("DPUCHAIN_CNI_SOCKET", SOCKET)
    problem = "it hung up before it had answered"
    try:
        status, _, text = ask(path, b"\0".join([*fields, sys.stdin.buffer.read()])).partition(b"\n")
    except OSError as error:
        status, text, problem = b"", b"", str(error)
    if status not in (b"0", b"1"):
        status, text = b"1", unreachable(UNAVAILABLE if command == "STATUS" else TRY_AGAIN, path, problem)
    print_text(text)
    sys.exit(int(status))


def ask(path: str, call: bytes) -> bytes:
    """Send the call and return all that is answered."""
    received = bytearray()
    agent = socket(AF_UNIX, SOCK_STREAM)
    try:
        agent.settimeout(ANSWER_SECONDS)
        agent.connect(path)
        agent.sendall(call)
        agent.shutdown(SHUT_WR)
        while chunk := agent.recv(65536):
            received += chunk
    finally:
        agent.close()
    return bytes(received)


def unreachable(code: int, path: str, problem: str) -> bytes:
    """The error object for an agent that does not answer."""
    import json  # noqa: PLC0415 - see above

    details = f"{problem}; is the agent running on this node?"
    error = {"cniVersion": NEWEST, "code": code, "msg": f"the dpuchain agent does not answer on {path}", "details": details}
    return json.dumps(error).encode() + b"\n"


def print_text(text: bytes) -> None:
    """Write to standard output."""
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
