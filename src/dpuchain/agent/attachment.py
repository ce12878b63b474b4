"""What a CNI call asks for (specification 1.1.0), as a value. Pure: outside bytes go in, a request or a `CniError` comes out."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from dpuchain.api.meta import ObjectKey
from dpuchain.cni.plugin import ENVIRONMENT, NEWEST, VERSIONS

# Error codes of the specification, section 5.
INCOMPATIBLE_VERSION, UNSUPPORTED_FIELD, INVALID_ENVIRONMENT, IO_FAILURE, DECODE_FAILURE, INVALID_CONFIG = 1, 2, 4, 5, 6, 7
OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""A DNS subdomain, as names of objects are."""
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Of networks and containers (specification, sections 1 and 2)."""
DEVICE_NAME = re.compile(r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}")
"""What Linux takes, as far as it is ASCII: neither a slash nor a colon nor white space."""
FORMS = {"CNI_CONTAINERID": IDENTIFIER, "CNI_IFNAME": DEVICE_NAME}
LONGEST_DEVICE_NAME = 15
LONGEST_PREFIX = 12
"""40 bits after `veth`; the rest of a device's name tells the attempts for one attachment apart."""
DEVICE = re.compile(rf"veth[a-z0-9]{{{LONGEST_DEVICE_NAME - 4}}}")
"""The names of the pairs' ends on the node."""


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


REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
}
"""The commands, and the variables that each cannot do without."""


class Request(msgspec.Struct, frozen=True):
    """A CNI call."""

    command: str
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
    """The request in the bytes that `dpuchain-cni` hands over. CniError if they are none, or if the call is one that cannot be."""
    *fields, text = body.split(b"\0", len(ENVIRONMENT))
    if len(fields) < len(ENVIRONMENT):
        raise CniError(DECODE_FAILURE, "the call cannot be understood", "it comes from another version of dpuchain-cni")
    config = _decode_object(text)
    version = config.get("cniVersion")
    if version not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {version!r:.100} is not supported", f"supported: {', '.join(VERSIONS)}")
    values = dict(zip(ENVIRONMENT, map(_decode_variable, ENVIRONMENT, fields), strict=True))
    command = values["CNI_COMMAND"]
    if command not in REQUIRED:
        raise CniError(INVALID_ENVIRONMENT, f"CNI_COMMAND is {command!r:.100}", f"it must be VERSION or one of {', '.join(REQUIRED)}")
    for name in REQUIRED[command]:
        if not values[name]:
            raise CniError(INVALID_ENVIRONMENT, f"{name} is not set, which {command} needs")
    return Request(command, config, values["CNI_CONTAINERID"], values["CNI_NETNS"], values["CNI_IFNAME"], values["CNI_ARGS"])


def version_of(body: bytes) -> str:
    """The CNI version to answer a call in: its own, or the newest where that cannot be told."""
    try:
        version = _decode_object(body.split(b"\0", len(ENVIRONMENT))[-1]).get("cniVersion")
    except CniError:
        return NEWEST
    return str(version) if version in VERSIONS else NEWEST


def _decode_object(text: bytes) -> dict[str, Any]:
    try:
        config = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CniError(DECODE_FAILURE, "the network configuration on standard input is not JSON", str(error)) from error
    if not isinstance(config, dict):
        raise CniError(DECODE_FAILURE, "the network configuration on standard input is not a JSON object", f"it is {config!r:.100}")
    return config


def _decode_variable(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise CniError(INVALID_ENVIRONMENT, f"{name} is not text: {value!r:.100}") from error
    form = FORMS.get(name)
    if text and form is not None and not form.fullmatch(text):
        raise CniError(INVALID_ENVIRONMENT, f"{name} cannot be {text!r:.100}", f"it must match {form.pattern}")
    return text


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
