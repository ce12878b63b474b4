"""The custom resource definitions on a real API server: what they take, what they refuse and with which words, what they fill in."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml

from dpuchain.api.crds import DPU_KINDS, HOST_KINDS, manifests
from dpuchain.api.resource import Resource
from dpuchain.kube.client import Client
from dpuchain.kube.errors import Invalid, NotFound
from dpuchain.lab.cluster import Cluster
from dpuchain.lab.process import run
from dpuchain.lab.toolchain import Toolchain

ROOT = Path(__file__).parents[2]
DEFINITIONS = str(ROOT / "deploy" / "crds")
EXAMPLE = ROOT / "examples" / "01-bump-in-the-wire" / "chain.yaml"
RESOURCES: dict[str, Resource[Any]] = {d.resource.kind: d.resource for d in (*HOST_KINDS, *DPU_KINDS)}
SCHEMAS = {m["spec"]["names"]["kind"]: m["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for m in manifests()}
NAMESPACE = "test-crds"
DEADLINE = 30.0

Json = dict[str, Any]
Place = tuple[str | int, ...]

FULL: dict[str, Json] = {k: v for k, v in yaml.safe_load(Path(__file__).with_name("crds_full.yaml").read_text()).items() if k != "parts"}
"""By kind, spec and status of an object with every field set, and set to something else than its default."""


def _full(kind: str, name: str = "full") -> Json:
    head = {"apiVersion": RESOURCES[kind].api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}}
    return {**head, **json.loads(json.dumps(FULL[kind]))}  # parts that occur twice become two


class Api:
    """The API server as the tests see it: kubectl, and JSON in and out."""

    def __init__(self, background: Any, client: Client, kubectl: tuple[str, str]) -> None:
        self.run = background.run
        self.client = client
        self._kubectl = kubectl

    def kubectl(self, *arguments: str, stdin: bytes | None = None) -> str:
        return str(self.run(run(*self._kubectl, *arguments, stdin=stdin)))

    def create(self, item: Json, **query: str) -> Json:
        return self._send("POST", RESOURCES[item["kind"]].path(item["metadata"]["namespace"]), item, query)

    def replace(self, item: Json, subresource: str = "", **query: str) -> Json:
        path = RESOURCES[item["kind"]].path(item["metadata"]["namespace"], item["metadata"]["name"], subresource)
        return self._send("PUT", path, item, query)

    def _send(self, method: str, path: str, item: Json, query: Mapping[str, str]) -> Json:
        answer: Json = json.loads(self.run(self.client.request(method, path, body=json.dumps(item).encode(), query=query)))
        return answer

    def until_served(self, resource: Resource[Any]) -> None:
        """Return when objects of the kind can be listed, which is a little after its definition is Established."""
        self.run(asyncio.wait_for(self._listed(resource), DEADLINE))

    async def _listed(self, resource: Resource[Any]) -> None:
        while True:
            try:
                await self.client.list(resource, namespace=NAMESPACE)
            except NotFound:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.fixture(scope="module")
def api(background: Any, control_plane: Cluster, toolchain: Toolchain) -> Iterator[Api]:
    """An API server with the definitions and an empty namespace. The definitions stay: other modules may apply the same ones."""
    background.run(toolchain.provide("kubectl"))
    client = Client.from_kubeconfig(control_plane.kubeconfig, user_agent="test")
    background.run(client.__aenter__())
    api = Api(background, client, (toolchain.path("kubectl"), f"--kubeconfig={control_plane.kubeconfig}"))
    api.kubectl("apply", "--server-side", "-f", DEFINITIONS)
    api.kubectl("wait", "--for=condition=Established", f"--timeout={DEADLINE:.0f}s", "-f", DEFINITIONS)
    for namespace in (NAMESPACE, "dpf-operator-system"):
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        api.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(manifest).encode())
    for resource in RESOURCES.values():
        api.until_served(resource)
    yield api
    for resource in RESOURCES.values():
        background.run(client.request("DELETE", resource.path(NAMESPACE)))
    background.run(client.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def stored(api: Api) -> dict[str, Json]:
    """The full object of each kind as the API server returns it, with its status."""
    return {kind: api.replace({**api.create(_full(kind)), "status": FULL[kind]["status"]}, "status") for kind in FULL}


class Violation(NamedTuple):
    """A keyword of a schema: where it stands, and what the API server says of the object that breaks it."""

    path: Place
    keyword: str
    bound: Any

    def __str__(self) -> str:
        bound = self.bound["message"] if isinstance(self.bound, dict) else self.bound if self.keyword == "required" else ""
        return f"{_dotted(self.path)} {self.keyword} {bound}".strip()


def _dotted(path: Place) -> str:
    """`path` in the words of the API server."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


KEYWORDS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "enum": (lambda _value, _bound: "no-such-value", "Unsupported value"),
    "pattern": (lambda _value, _bound: "no match", "should match"),
    "format": (lambda _value, _bound: "yesterday", "must be of type date-time"),
    "minimum": (lambda _value, bound: bound - 1, "should be greater than or equal to {}"),
    "maximum": (lambda _value, bound: bound + 1, "should be less than or equal to {}"),
    "minLength": (lambda value, bound: value[: bound - 1], "should be at least {} chars long"),
    "maxLength": (lambda _value, bound: "x" * (bound + 1), "may not be more than {}"),
    "minItems": (lambda value, bound: value[: bound - 1], "should have at least {} items"),
    "maxItems": (lambda value, bound: value[:1] * (bound + 1), "must have at most {} items"),
    "minProperties": (lambda _value, _bound: {}, "should have at least {} properties"),
    "maxProperties": (lambda _value, bound: {f"key{n}": "v" for n in range(bound + 1)}, "must have at most {} items"),
    "x-kubernetes-list-map-keys": (lambda value, _bound: value[:1] * 2, "Duplicate value"),
}
"""Each keyword that bounds a value: what breaks it, and the API server's words for that."""


def _without(value: Json, name: str) -> Json:
    return {key: part for key, part in value.items() if key != name}


def _retyped(name: str, spec: Json) -> Json:
    return {**_without(spec, name), "interfaceType": name}


def _renamed(name: str, item: Json) -> Json:
    return {**item, "metadata": {**item["metadata"], "name": name}}


RULES: dict[str, Callable[[Json], Any]] = {
    **{
        f"for interfaceType={name}, {name} must be set": partial(_retyped, name)
        for name in ("vlan", "physical", "pf", "vf", "patch", "service")
    },
    "for type=pci, pci must be set": lambda selector: _without(selector, "pci"),
    "serviceID must be provided when interfaces are provided": lambda spec: _without(spec, "serviceID"),
    "name length can't be bigger than 63 chars": partial(_renamed, "x" * 64),
    "name must be a DNS-1035 label: at most 63 of a-z, 0-9 and -, a letter first, no hyphen last": partial(_renamed, "1st"),
}
"""Each CEL rule about an object as such, and what breaks it."""

TRANSITIONS: dict[str, Callable[[Any], Any]] = {
    "virtualNetwork is immutable": lambda _value: "red",
    "kubeconfig is immutable": lambda spec: {**spec, "kubeconfig": "other"},
}
"""Each CEL rule about a change, and a change that breaks it."""

PLAIN = {"type", "description", "properties", "items", "additionalProperties", "default", "x-kubernetes-list-type", "x-kubernetes-map-type"}
OPEN = {"x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string"}


def _violations(schema: Json, path: Place) -> Iterator[Violation]:
    """Every constraint of a schema, those of its parts included."""
    for keyword in sorted(schema.keys() - PLAIN - OPEN - {"required", "x-kubernetes-validations"}):  # as each worker must
        yield Violation(path, keyword, schema[keyword])
    for name in schema.get("required", ()):
        yield Violation(path, "required", name)
    for rule in schema.get("x-kubernetes-validations", ()):
        yield Violation(path, "rule", rule)
    for name, part in schema.get("properties", {}).items():
        yield from _violations(part, (*path, name))
    if "items" in schema:
        yield from _violations(schema["items"], (*path, 0))


def _broken(item: Json, violation: Violation) -> Json:
    """`item` changed so that it breaks that constraint and, as far as can be, no other."""
    parent: Any = {"": item}
    step: str | int = ""
    for part in violation.path:
        parent, step = parent[step], part
    value = parent[step]
    match violation:
        case Violation(keyword="required", bound=name):
            parent[step] = _without(value, name)
        case Violation(keyword="rule", bound={"message": message}):
            parent[step] = {**RULES, **TRANSITIONS}[message](value)
        case Violation(keyword=keyword, bound=bound):
            parent[step] = KEYWORDS[keyword][0](value, bound)
    broken: Json = item if violation.path else parent[""]
    return broken


def _refusal(violation: Violation) -> tuple[str, str]:
    """Field and words of the API server's refusal."""
    path = violation.path
    match violation:
        case Violation(keyword="required", bound=name):
            return _dotted((*path, name)), "Required value"
        case Violation(keyword="rule", bound={"message": message}):
            return _dotted(path) or "<nil>", message  # how it calls the object as a whole
        case Violation(keyword="x-kubernetes-list-map-keys"):
            path = (*path, 1)
    return _dotted(path), KEYWORDS[violation.keyword][1].format(violation.bound)


def _attempt(api: Api, stored: Json, violation: Violation) -> Json:
    """Ask for what `violation` makes of an object: a new one, or where the rule is about a change or the status, the stored one."""
    if violation.path[:1] == ("status",):
        return api.replace(_broken(copy.deepcopy(stored), violation), "status", dryRun="All")
    if violation.keyword == "rule" and violation.bound["message"] in TRANSITIONS:
        return api.replace(_broken(copy.deepcopy(stored), violation), dryRun="All")
    return api.create(_broken(_full(stored["kind"], "other"), violation), dryRun="All")


CASES = [(kind, violation) for kind, schema in SCHEMAS.items() for violation in _violations(schema, ())]


@pytest.mark.parametrize(("kind", "violation"), CASES, ids=str)
def test_what_breaks_a_rule_is_refused_with_field_and_reason(api: Api, stored: dict[str, Json], kind: str, violation: Violation) -> None:
    with pytest.raises(Invalid) as refusal:
        _attempt(api, stored[kind], violation)
    field, words = _refusal(violation)
    assert any(at == field and words in message for at, message in refusal.value.causes), refusal.value.causes


@pytest.mark.parametrize("kind", FULL)
def test_api_server_keeps_every_field_and_the_structs_carry_every_field(stored: dict[str, Json], kind: str) -> None:
    assert {part: stored[kind][part] for part in ("spec", "status")} == FULL[kind]
    decoded = json.loads(msgspec.json.encode(msgspec.convert(stored[kind], RESOURCES[kind].type)))
    assert {part: decoded[part] for part in ("spec", "status")} == FULL[kind]


MINIMAL: dict[str, tuple[Json, Json]] = {
    "ServiceChain": (
        {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}]}]},
        {"switches": [{"ports": [{"serviceInterface": {"matchLabels": {"a": "b"}}}], "serviceMTU": 1500}]},
    ),
    "ServiceInterface": ({"interfaceType": "ovn", "ovn": {}}, {"interfaceType": "ovn", "ovn": {"externalBridge": "br-ovn"}}),
    "DPUCluster": ({"type": "kamaji", "version": "v1"}, {"type": "kamaji", "version": "v1", "maxNodes": 1000}),
    "DPFOperatorConfig": ({}, {"networking": {"controlPlaneMTU": 1500, "highSpeedMTU": 1500}}),
    "DPUService": (
        {"helmChart": {"source": {"repoURL": "https://x", "version": "1"}}, "configPorts": {"ports": [{"name": "a", "port": 1}]}},
        {
            "helmChart": {"source": {"repoURL": "https://x", "version": "1"}},
            "configPorts": {"serviceType": "NodePort", "ports": [{"name": "a", "port": 1, "protocol": "TCP"}]},
        },
    ),
}
"""A spec with nothing in it that may be left out, and what the API server makes of it."""


@pytest.mark.parametrize("kind", MINIMAL)
def test_defaults_are_filled_in_and_are_those_of_the_structs(api: Api, kind: str) -> None:
    given, filled = MINIMAL[kind]
    item = {**_full(kind, "minimal"), "spec": given}
    answer = api.create(item, dryRun="All")
    assert answer["spec"] == filled
    struct = RESOURCES[kind].type
    assert msgspec.convert(item, struct).spec == msgspec.convert(answer, struct).spec


def test_operator_config_may_leave_out_its_whole_spec(api: Api) -> None:
    answer = api.create(_without(_full("DPFOperatorConfig", "minimal"), "spec"), dryRun="All")
    assert answer["spec"]["networking"]["highSpeedMTU"] == 1500


@pytest.mark.parametrize(("kind", "parts"), [("DPFOperatorConfig", ("networking", "sfcController")), ("DPUCluster", ())])
def test_fields_of_dpf_that_are_not_ours_are_kept(api: Api, kind: str, parts: tuple[str, ...]) -> None:
    item = _full(kind, "more")
    for place in (item["spec"], *(item["spec"][part] for part in parts)):
        place["unknown"] = {"deep": [1]}
    assert api.create(item, dryRun="All", fieldValidation="Strict")["spec"] == item["spec"]


def test_misspelt_field_is_refused_by_name(api: Api) -> None:
    item = _full("ServiceChain", "other")
    item["spec"]["switches"][0]["serviceMtu"] = 1500
    with pytest.raises(Invalid, match=r'unknown field "spec.switches\[0\].serviceMtu"'):
        api.create(item, dryRun="All", fieldValidation="Strict")


def test_field_selector_finds_what_is_on_a_node(api: Api, stored: dict[str, Json]) -> None:
    for kind in ("ServiceChain", "ServiceInterface"):
        elsewhere = _full(kind, "elsewhere")
        elsewhere["spec"]["node"] = "dpu-2"
        api.create(elsewhere)
        for node, name in (("dpu-1", "full"), ("dpu-2", "elsewhere")):
            found = api.run(api.client.list(RESOURCES[kind], namespace=NAMESPACE, field_selector=f"spec.node={node}"))
            assert [item.metadata.name for item in found.items] == [name]


COLUMNS = {
    "DPUServiceChain": {"READY": "True", "REASON": "Success"},
    "DPUServiceInterface": {"IFTYPE": "service", "IFNAME": "eth1", "READY": "True", "REASON": "Success"},
    "DPUService": {"READY": "True", "REASON": "Success"},
    "DPUCluster": {"READY": "True", "PHASE": "Ready", "TYPE": "static", "MAXNODES": "7", "VERSION": "v1.36.2"},
    "DPFOperatorConfig": {"READY": "True", "REASON": "Success"},
    "ServiceChainSet": {},
    "ServiceInterfaceSet": {"IFTYPE": "service", "IFNAME": "eth1"},
    "ServiceChain": {"NODE": "dpu-1", "READY": "True", "REASON": "Success"},
    "ServiceInterface": {"IFTYPE": "service", "IFNAME": "eth1", "NODE": "dpu-1", "READY": "True", "REASON": "Success"},
}
"""What `kubectl get` shows of the full objects, between name and age."""


@pytest.mark.parametrize("kind", COLUMNS)
def test_kubectl_shows_the_columns(api: Api, stored: dict[str, Json], kind: str) -> None:
    shown = api.kubectl("get", RESOURCES[kind].plural, stored[kind]["metadata"]["name"], "-n", NAMESPACE)
    titles, values = (line.split() for line in shown.splitlines())
    columns = dict(zip(titles, values, strict=True))
    assert columns.pop("NAME") == "full"
    assert columns.pop("AGE")
    assert columns == COLUMNS[kind]
    assert list(columns) == list(COLUMNS[kind])


def test_example_of_the_document_applies_unchanged_and_a_second_time_changes_nothing(api: Api) -> None:
    interfaces = [f"dpuserviceinterface.svc.dpu.nvidia.com/{name} created" for name in ("p0", "pf0hpf", "eth1", "eth2")]
    others = ["dpuservice.svc.dpu.nvidia.com/example-service created", "dpuservicechain.svc.dpu.nvidia.com/example-chain created"]
    versions = ("get", "-f", str(EXAMPLE), "-o", "jsonpath={.items[*].metadata.resourceVersion}")
    try:
        assert api.kubectl("apply", "-f", str(EXAMPLE)).splitlines() == interfaces + others
        first = api.kubectl(*versions)
        api.kubectl("apply", "-f", str(EXAMPLE))
        assert api.kubectl(*versions) == first
        shown = api.kubectl("get", "dpuserviceinterface", "p0", "-n", "dpf-operator-system", "--no-headers")
        assert shown.split()[:3] == ["p0", "physical", "p0"]
    finally:
        api.kubectl("delete", "--ignore-not-found", "-f", str(EXAMPLE))


def test_kubectl_explains_in_the_words_of_the_structs(api: Api) -> None:
    text = " ".join(api.kubectl("explain", "dpuservicechain.spec").split())
    assert "A chain on each selected node of each selected DPU cluster." in text
    assert "template <Object> -required- What is made in each DPU cluster." in text
    text = " ".join(api.kubectl("explain", "servicechain.spec.switches.serviceMTU").split())
    assert "MTU of the services' interfaces on the switch, at most the highSpeedMTU of the DPFOperatorConfig." in text
