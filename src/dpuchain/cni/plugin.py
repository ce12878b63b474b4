"""`dpuchain-cni`: a CNI plugin (specification 1.1.0) that forwards each call to the agent's socket.

To be run as `python3 -IS plugin.py`: without site packages it answers in some 25 ms. The agent's socket is DPUCHAIN_CNI_SOCKET, or
/run/dpuchain/cni.sock.
"""

import json
import os
import socket
import sys

VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
NEWEST = VERSIONS[-1]
SOCKET = "/run/dpuchain/cni.sock"
REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
}
ANSWER_SECONDS = 60.0

# Error codes of the specification, section 5.
INCOMPATIBLE_VERSION, INVALID_ENVIRONMENT, IO_FAILURE, DECODE_FAILURE, TRY_AGAIN, UNAVAILABLE = 1, 4, 5, 6, 11, 50


class CniError(Exception):
    """Ends the call with an error object."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details


def main() -> None:
    """Answer one call: the result on standard output and status 0, or an error object and status 1."""
    version = NEWEST
    try:
        command = os.environ.get("CNI_COMMAND", "")
        if command == "VERSION":
            answer: object = {"cniVersion": NEWEST, "supportedVersions": VERSIONS}
        else:
            config = _config(sys.stdin.buffer.read())
            version = _version(config)
            answer = _forward(command, config)
    except CniError as error:
        _print({"cniVersion": version, "code": error.code, "msg": error.message, "details": error.details})
        sys.exit(1)
    if answer is not None:
        _print(answer)


def _config(text: bytes) -> dict[str, object]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CniError(DECODE_FAILURE, "the network configuration on standard input is not JSON", str(error)) from error
    if not isinstance(config, dict):
        raise CniError(DECODE_FAILURE, "the network configuration on standard input is not a JSON object", f"it is {config!r:.100}")
    return config


def _version(config: dict[str, object]) -> str:
    version = config.get("cniVersion")
    if not isinstance(version, str) or version not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {version!r} is not supported", f"supported: {', '.join(VERSIONS)}")
    return version


def _forward(command: str, config: dict[str, object]) -> object:
    if command not in REQUIRED:
        raise CniError(INVALID_ENVIRONMENT, f"CNI_COMMAND is {command!r}", f"it must be VERSION or one of {', '.join(REQUIRED)}")
    for name in REQUIRED[command]:
        if not os.environ.get(name):
            raise CniError(INVALID_ENVIRONMENT, f"{name} is not set, which {command} needs")
    request = {
        "command": command,
        "container_id": os.environ.get("CNI_CONTAINERID", ""),
        "netns": os.environ.get("CNI_NETNS", ""),
        "ifname": os.environ.get("CNI_IFNAME", ""),
        "args": os.environ.get("CNI_ARGS", ""),
        "config": config,
    }
    path = os.environ.get("DPUCHAIN_CNI_SOCKET", SOCKET)
    try:
        call = json.dumps(request).encode()
    except RecursionError as error:  # just shallow enough to be read
        raise CniError(DECODE_FAILURE, "the network configuration is nested too deeply", str(error)) from error
    answer = _ask(path, call, UNAVAILABLE if command == "STATUS" else TRY_AGAIN)
    if "error" in answer:
        said = answer["error"]
        raise CniError(said["code"], said["msg"], said.get("details", ""))
    return answer.get("result")


def _ask(path: str, request: bytes, unreachable: int) -> dict:  # type: ignore[type-arg]  # JSON has no narrower type
    received = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(ANSWER_SECONDS)
            agent.connect(path)
            agent.sendall(request)
            agent.shutdown(socket.SHUT_WR)
            while chunk := agent.recv(65536):
                received += chunk
    except OSError as error:
        raise CniError(
            unreachable, f"the dpuchain agent does not answer on {path}", f"{error}; is the agent running on this node?"
        ) from error
    try:
        answer = json.loads(received)
    except ValueError as error:
        raise CniError(unreachable, "the dpuchain agent hung up before it had answered", str(error)) from error
    if not isinstance(answer, dict):
        raise CniError(IO_FAILURE, "the dpuchain agent answered with something that is not an object")
    return answer


def _print(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


if __name__ == "__main__":
    main()
