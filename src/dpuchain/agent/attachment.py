"""What a CNI call asks for (specification 1.1.0), as a value. Pure: outside bytes go in, a request or a `CniError` comes out."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from dpuchain.api.meta import ObjectKey

# Error codes of the specification, section 5.
UNSUPPORTED_FIELD, INVALID_ENVIRONMENT, IO_FAILURE, DECODE_FAILURE, INVALID_CONFIG, TRY_AGAIN, UNAVAILABLE = 2, 4, 5, 6, 7, 11, 50
OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""A DNS subdomain, as names of objects are."""
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Of networks and containers (specification, sections 1 and 2)."""
DEVICE_NAME = re.compile(r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}")
"""What Linux takes, as far as it is ASCII: neither a slash nor a colon nor white space."""
PATH = re.compile(r"[^\0]+")
LONGEST_DEVICE_NAME = 15
LONGEST_PREFIX = 12
"""40 bits after `veth`; the rest of a device's name tells the attempts for one attachment apart."""


class CniError(Exception):
    """Ends a CNI call: an error object of the specification."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(f"{message}: {details}" if details else message)
        self.code = code
        self.message = message
        self.details = details


class ValidAttachment(msgspec.Struct, frozen=True, rename={"container_id": "containerID"}):
    """An attachment that the runtime still knows, in a GC call."""

    container_id: str
    ifname: str


class Interface(msgspec.Struct, frozen=True, omit_defaults=True):
    """An interface in a result. `sandbox` is the network namespace, empty for the node's own."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""


class Result(msgspec.Struct, frozen=True, omit_defaults=True, rename={"cni_version": "cniVersion"}):
    """The result of ADD, or the previous one in DEL and CHECK."""

    cni_version: str = ""
    interfaces: tuple[Interface, ...] = ()


KNOWN_FIELDS = frozenset(
    {"cniVersion", "cniVersions", "name", "type", "disableCheck", "disableGC", "bridge", "args", "capabilities", "runtimeConfig", "dns"}
    | {"prevResult", "cni.dev/valid-attachments", "cni.dev/attachments"}
)
"""Fields of a configuration that are understood, or that the specification lets a plugin ignore."""


class Config(
    msgspec.Struct,
    frozen=True,
    rename={
        "cni_version": "cniVersion",
        "previous": "prevResult",
        "valid": "cni.dev/valid-attachments",
    },
):
    """A network configuration, as far as it is used."""

    cni_version: str
    name: str
    bridge: str | None = None
    previous: Result | None = None
    valid: tuple[ValidAttachment, ...] | UnsetType | None = UNSET
    """None stands for an empty list: runtimes in Go write an empty slice as null."""


class Request(msgspec.Struct, frozen=True):
    """A CNI call as `dpuchain-cni` hands it on."""

    command: Literal["ADD", "DEL", "CHECK", "GC", "STATUS"]
    config: dict[str, Any]
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: str = ""

    @property
    def arguments(self) -> dict[str, str]:
        """CNI_ARGS as a mapping. CniError if it has another form."""
        pairs = [pair.partition("=") for pair in self.args.split(";") if pair]
        if any(not separator for _, separator, _ in pairs):
            raise CniError(INVALID_ENVIRONMENT, f"CNI_ARGS is {self.args!r}", "it must be KEY=VALUE pairs with semicolons between them")
        return {key: value for key, _, value in pairs}

    @property
    def pod(self) -> ObjectKey:
        """The pod that is being wired. CniError if CNI_ARGS does not name one."""
        arguments = self.arguments
        for name in ("K8S_POD_NAMESPACE", "K8S_POD_NAME"):
            if not OBJECT_NAME.fullmatch(arguments.get(name, "")):
                reason = f"names no pod with {name}={arguments[name]}" if name in arguments else f"lacks {name}"
                raise CniError(INVALID_ENVIRONMENT, f"CNI_ARGS {reason}", "only pods of Kubernetes can be wired")
        return ObjectKey(arguments["K8S_POD_NAMESPACE"], arguments["K8S_POD_NAME"])

    @property
    def prefix(self) -> str:
        """What the name of the pair's end on the node begins with: the same for the same attachment, so that a later call finds it."""
        digest = hashlib.sha256(f"{self.container_id}\0{self.ifname}".encode()).digest()
        return f"veth{base64.b32encode(digest).decode().lower()}"[:LONGEST_PREFIX]


def decode_request(body: bytes) -> Request:
    """The request in the bytes of a call. CniError if they are none."""
    try:
        request = msgspec.json.decode(body, type=Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CniError(DECODE_FAILURE, "the call cannot be understood", str(error)) from error
    for variable, value, form in (
        ("CNI_CONTAINERID", request.container_id, IDENTIFIER),
        ("CNI_IFNAME", request.ifname, DEVICE_NAME),
        ("CNI_NETNS", request.netns, PATH),
    ):
        if value and not form.fullmatch(value):
            raise CniError(INVALID_ENVIRONMENT, f"{variable} cannot be {value!r:.100}", f"it must match {form.pattern}")
    return request


def decode_config(request: Request, bridge: str) -> Config:
    """The configuration of a call, for the agent of `bridge`. CniError, naming the field, if it asks for what is not supported.

    DEL and GC take any: what a configuration asks for in vain was never made, and what was made must go though it has changed since.
    """
    try:
        config = msgspec.convert(request.config, type=Config)
    except msgspec.MsgspecError as error:
        raise CniError(INVALID_CONFIG, "the network configuration is not valid", str(error)) from error
    if request.command in ("DEL", "GC"):
        return config
    unknown = {name: value for name, value in sorted(request.config.items()) if name not in KNOWN_FIELDS and (name, value) != ("ipam", {})}
    if unknown:
        fields = ", ".join(f"{name}={value!r:.100}" for name, value in unknown.items())
        raise CniError(
            UNSUPPORTED_FIELD, f"unsupported fields in network {config.name}: {fields}", "remove them from the NetworkAttachmentDefinition"
        )
    if not IDENTIFIER.fullmatch(config.name):
        raise CniError(INVALID_CONFIG, f"the network cannot be called {config.name!r:.100}", f"its name must match {IDENTIFIER.pattern}")
    if config.bridge not in (None, bridge):
        raise CniError(INVALID_CONFIG, f"network {config.name} is of bridge {config.bridge}", f"the agent of this node serves {bridge}")
    return config
