"""DPU clusters that are away, that cannot be reached by what their Secret says, and that are gone."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.proxy import Fate, Proxy, Seen

from dpuchain.api import kinds, names
from dpuchain.kube.secrets import KUBECONFIG_KEY
from dpuchain.runtime.metrics import exposition

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.host.conftest import Place, World

    from dpuchain.api.meta import ObjectKey

RECONCILED, READY = names.CHAIN_SET_RECONCILED, names.CHAIN_SET_READY
BOTH = {"north", "south"}
SAME = "leads to the same API server as DPUCluster"
SLOWNESS = 2.0
"""Seconds in which the younger would have taken away what is the older's, if it were served."""
SECRET = "c2VjcmV0LW9mLXNvdXRo"  # stands in kubeconfigs that cannot be used, and must stand nowhere else
pytestmark = pytest.mark.usefixtures("controller")


def since(message: str) -> str:
    found = re.search(r"cannot be reached since (\S+Z):", message)
    assert found, message
    return found[1]


async def test_cluster_that_is_away_hinders_no_other_and_is_back_by_itself(world: World) -> None:
    for name in BOTH:
        await world.add_cluster(name)
    await world.add_chain()
    await world.until(lambda: world.everywhere() == BOTH, "in both")
    for place in world.places.values():
        await world.report(place)
    await world.told(world.chains, "chain", names.READY, "True")
    world.fleet.stop_api_server("south")
    try:
        away = f"* Cluster: {world.namespace}/south\n  DPUCluster {world.namespace}/south cannot be reached since "
        await world.told(world.chains, "chain", RECONCILED, "False", away)
        told = since(world.message(world.chains, "chain", RECONCILED))
        await world.add_chain("next")
        await world.until(lambda: "north" in world.everywhere("next"), "in the one that is there")
        await world.told(world.chains, "next", RECONCILED, "False", away)
        assert since(world.message(world.chains, "next", RECONCILED)) == told
        await world.client.delete(kinds.DPU_SERVICE_CHAIN, world.key("next"))
        await world.until(
            lambda: (item := world.north.chain_sets.get(world.key("next"))) is None or item.metadata.deletion_timestamp is not None,
            "being deleted",
        )
        await world.north.let_go()
        await world.told(world.chains, "next", RECONCILED, "False", "delete the DPUCluster if it is gone for good")
        assert since(world.message(world.chains, "chain", RECONCILED)) == told
    finally:
        world.fleet.start_api_server("south")
    await world.told(world.chains, "chain", names.READY, "True")
    await world.until(lambda: world.chains.get(world.key("next")) is None, "gone")


async def test_cluster_that_is_deleted_lets_objects_go_that_wait_for_it(world: World) -> None:
    for name in BOTH:
        await world.add_cluster(name)
    await world.add_chain()
    await world.until(lambda: world.everywhere() == BOTH, "in both")
    world.fleet.stop_api_server("south")
    try:
        await world.told(world.chains, "chain", RECONCILED, "False", "cannot be reached since")
        await world.client.delete(kinds.DPU_SERVICE_CHAIN, world.key("chain"))
        await world.until(
            lambda: (item := world.north.chain_sets.get(world.key("chain"))) is not None and item.metadata.deletion_timestamp is not None,
            "being deleted",
        )
        await world.north.let_go()
        await world.told(
            world.chains, "chain", RECONCILED, "False", f"1 objects still exist across all DPU clusters\n* Cluster: {world.namespace}/south"
        )
        await world.client.delete(kinds.DPU_CLUSTER, world.key("south"))
        await world.until(lambda: len(world.chains) == 0, "gone")
    finally:
        world.fleet.start_api_server("south")
    await world.south_is_back()


async def test_of_two_that_lead_to_one_api_server_the_older_is_served(world: World) -> None:
    await world.add_cluster("north", place="first")
    await world.add_chain(dpuClusterSelector={"matchLabels": {"place": "first"}})
    await world.told(world.chains, "chain", RECONCILED, "True")
    await world.add_cluster("twin", world.kubeconfig("north"), place="second")
    await world.add_chain("second", dpuClusterSelector={"matchLabels": {"place": "second"}})
    told = f"DPUCluster {world.namespace}/twin leads to the same API server as DPUCluster {world.namespace}/north, which is older"
    await world.told(world.chains, "second", RECONCILED, "False", told)
    written = await world.versions()
    await world.add_chain("both")
    await world.told(world.chains, "both", RECONCILED, "False", told)
    await world.until(lambda: world.everywhere("both") == {"north"}, "written once")
    now = await world.versions()
    assert {key: now[key] for key in written} == written
    assert world.everywhere("second") == set()
    await world.client.delete(kinds.DPU_CLUSTER, world.key("north"))
    await world.until(lambda: world.everywhere("second") == {"north"}, "served when it is alone")


async def test_an_older_one_that_comes_to_the_same_api_server_later_is_served(world: World) -> None:
    await world.add_bare_cluster("elder", place="first")
    await world.add_cluster("north", place="second")
    await world.add_chain(dpuClusterSelector={"matchLabels": {"place": "second"}})
    await world.until(lambda: world.everywhere() == {"north"}, "there")
    await world.put_secret("elder", world.kubeconfig("north"))
    await world.told(
        world.chains, "chain", RECONCILED, "False", f"the same API server as DPUCluster {world.namespace}/elder, which is older"
    )
    await world.add_chain("first", dpuClusterSelector={"matchLabels": {"place": "first"}})
    await world.until(lambda: world.everywhere("first") == {"north"}, "served")


async def two_of_one(world: World, elder: bytes) -> dict[tuple[str, ObjectKey], str]:
    """Have an older and a younger DPUCluster that lead to one API server; gives what the older has there."""
    await world.add_cluster("elder", elder, place="first")
    await world.until(lambda: len(world.clusters) == 1, "seen")
    await world.add_chain(dpuClusterSelector={"matchLabels": {"place": "first"}})
    await world.told(world.chains, "chain", RECONCILED, "True")
    await world.add_cluster("twin", world.kubeconfig("north"), place="second")
    await world.add_chain("second", dpuClusterSelector={"matchLabels": {"place": "second"}})
    await world.told(world.chains, "second", RECONCILED, "False", SAME)
    return await sets_in(world)


async def end(controller: asyncio.Task[None]) -> None:
    controller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await controller


async def sets_in(world: World) -> dict[tuple[str, ObjectKey], str]:
    return {key: version for key, version in (await world.versions()).items() if key[0].endswith("/servicechainsets")}


async def test_younger_of_two_is_not_served_while_the_older_is_asked_who_it_is(
    world: World, controller: asyncio.Task[None], start: Callable[..., asyncio.Task[None]]
) -> None:
    asked = asyncio.Event()

    async def late(_: Seen) -> Fate:
        if not asked.is_set():
            await asyncio.sleep(SLOWNESS)
            asked.set()
        return None

    async with Proxy(world.fleet.members["north"]).serve() as proxy:
        before = await two_of_one(world, proxy.kubeconfig)
        await end(controller)
        proxy.rule = late
        start()
        await world.add_chain("probe", dpuClusterSelector={"matchLabels": {"place": "first"}})
        await world.told(world.chains, "probe", RECONCILED, "True")
        await world.set_mtu(1400, "second")
        await world.told(world.chains, "second", RECONCILED, "False", SAME)
        assert asked.is_set()
        now = await sets_in(world)
        assert {key: now.get(key) for key in before} == before
        assert len(now) == len(before) + 1


async def test_younger_of_two_is_not_served_while_the_older_cannot_say_who_it_is(
    world: World, controller: asyncio.Task[None], start: Callable[..., asyncio.Task[None]]
) -> None:
    before = await two_of_one(world, world.kubeconfig("north"))
    await end(controller)
    stranger = world.fleet.members["north"].connection("stranger").kubeconfig("north")
    await world.put_secret("elder", json.dumps(stranger).encode())
    start()
    await world.told(world.chains, "chain", RECONCILED, "False", 'User "stranger" cannot list resource')
    await world.set_mtu(1400, "second")
    await world.told(world.chains, "second", RECONCILED, "False", SAME)
    assert await sets_in(world) == before


async def test_younger_of_two_is_not_served_when_the_kubeconfig_of_the_older_is_of_no_use_any_more(world: World) -> None:
    before = await two_of_one(world, world.kubeconfig("north"))
    await world.put_secret("elder", b"{}")
    await world.told(world.chains, "chain", RECONCILED, "False", "cannot be used")
    for mtu in range(1400, 1410):  # the first may be told before the younger would be served
        await world.set_mtu(mtu, "second")
        await world.told(world.chains, "second", RECONCILED, "False", SAME)
    assert await sets_in(world) == before


def broken_kubeconfigs(good: dict[str, Any]) -> dict[str, tuple[bytes, str]]:
    """Kubeconfigs that cannot be used, each with the words that say why."""
    user = {"name": "south", "user": {"token": SECRET}}
    certificate = {"name": "south", "user": {"client-certificate-data": SECRET, "client-key-data": SECRET}}
    helper = {"name": "south", "user": {"exec": {"apiVersion": "v1", "command": "touch", "args": [SECRET]}}}
    file = {"name": "south", "user": {"tokenFile": "/etc/hostname"}}
    return {
        "not YAML": (f"users: {{token: {SECRET}".encode(), "is not YAML"),
        "bytes": (b"\xff\xfe\x00" + SECRET.encode(), "is not YAML"),
        "list": (json.dumps([SECRET]).encode(), "is not a mapping"),
        "no clusters": (json.dumps({"users": [user]}).encode(), "missing"),
        "odd clusters": (json.dumps({**good, "clusters": [SECRET]}).encode(), "kubeconfig"),
        "no context": (json.dumps({**good, "current-context": "other"}).encode(), "Context 'other' not found"),
        "bad certificate": (json.dumps({**good, "users": [certificate]}).encode(), "cannot be used"),
        "password in the URL": (
            json.dumps({**good, "clusters": [{"name": "south", "cluster": {"server": f"https://ann:{SECRET}@127.0.0.1"}}]}).encode(),
            "server has a user or a password in its URL",
        ),
        "helper program": (json.dumps({**good, "users": [helper]}).encode(), "exec or auth-provider plugin"),
        "file": (json.dumps({**good, "users": [file]}).encode(), "names a file (tokenFile)"),
    }


async def test_secret_that_is_wrong_is_named_until_it_is_right(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await world.add_cluster("north")
    await world.add_bare_cluster("south")
    await world.add_chain()
    where = f"DPUCluster {world.namespace}/south cannot be used: {KUBECONFIG_KEY} of Secret {world.namespace}/south-kubeconfig"
    await world.told(world.chains, "chain", RECONCILED, "False", f"{where} does not exist, as there is no such Secret")
    await world.put_secret("south", world.kubeconfig("south"), key="value")
    await world.told(world.chains, "chain", RECONCILED, "False", f"{where} does not exist or is empty")
    for kubeconfig, words in broken_kubeconfigs(json.loads(world.kubeconfig("south"))).values():
        await world.put_secret("south", kubeconfig)
        await world.told(world.chains, "chain", RECONCILED, "False", words)
        assert where in world.message(world.chains, "chain")
        assert SECRET not in str(world.chains.get(world.key("chain")))
    await world.until(lambda: world.everywhere() == {"north"}, "in the one that can be used")
    await world.put_secret("south", world.kubeconfig("south"))
    await world.until(lambda: world.everywhere() == BOTH, "in both")
    await world.told(world.chains, "chain", RECONCILED, "True")
    logs = capsys.readouterr()
    assert "DPU cluster cannot be used" in logs.out
    assert SECRET not in logs.out + logs.err
    assert SECRET not in (await exposition()).decode()
    events = (await world.client.list(kinds.EVENT, namespace=world.namespace)).items
    assert SECRET not in str(events)


async def test_rotated_kubeconfig_is_taken_up_and_a_useless_one_is_told(world: World) -> None:
    await world.add_cluster("north")
    await world.add_chain()
    await world.told(world.chains, "chain", RECONCILED, "True")
    good = json.loads(world.kubeconfig("north"))
    stranger = world.fleet.members["north"].connection("stranger").kubeconfig("north")
    await world.put_secret("north", json.dumps(stranger).encode())
    await world.told(world.chains, "chain", RECONCILED, "False", 'User "stranger" cannot list resource')
    await world.put_secret("north", json.dumps({**good, "rotated": True}).encode())
    await world.told(world.chains, "chain", RECONCILED, "True")
    await world.add_chain("next")
    await world.until(lambda: world.everywhere("next") == {"north"}, "written with the new one")
    await world.client.delete(kinds.SECRET, world.key("north-kubeconfig"))
    await world.told(world.chains, "chain", RECONCILED, "False", "there is no such Secret")


async def test_cluster_that_stops_answering_in_the_midst_of_writes_holds_up_no_other(world: World) -> None:
    """Each of its requests waits for half a minute; what an operator changes meanwhile is in the other cluster at once."""
    for name in BOTH:
        await world.add_cluster(name)
    await world.add_chain()
    await world.until(lambda: world.everywhere() == BOTH, "in both")
    with world.fleet.paused_api_server("south"):
        for mtu in (1300, 1301, 1302):
            await world.set_mtu(mtu)
            async with asyncio.timeout(10):
                await world.until(lambda mtu=mtu: mtu_in(world, world.north) == mtu, "changed in the one that answers")  # type: ignore[misc]
        await world.add_chain("next")
        async with asyncio.timeout(10):
            await world.until(lambda: world.north.chain_sets.get(world.key("next")) is not None, "in the one that answers")
    await world.until(lambda: mtu_in(world, world.south) == 1302 and world.everywhere("next") == BOTH, "changed in the other too")


def mtu_in(world: World, place: Place) -> int:
    found = place.chain_sets.get(world.key("chain"))
    assert found is not None
    return found.spec.template.spec.switches[0].service_mtu
