"""The database of a real Open vSwitch: ports read, told and changed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.doors import opened, ports, until

from dpuchain.lab.openvswitch import OpenVSwitch
from dpuchain.ovs.changes import AddPort, DeletePort, SetInterface
from dpuchain.ovs.database import Database
from dpuchain.ovs.errors import Rejected, Unreachable
from dpuchain.ovs.rows import Absent
from dpuchain.ovs.unixctl import call


async def test_a_port_is_made_and_gets_the_number_that_was_asked_for(ovs: OpenVSwitch) -> None:
    async with opened(Database(ovs.database)) as database:
        wanted = AddPort("br-sfc", "p0", "dummy", {"dpf-type": "physical"}, {"dpf-id": "ns/p0"}, 9216, 17)
        await database.apply([wanted])
        assert ports(database)["p0"].interface_external_ids == {"dpf-id": "ns/p0"}
        await until(database, lambda: ports(database)["p0"].ofport == 17)
        row = ports(database)["p0"]
        assert (row.type, row.mtu_request, row.ofport_request, row.error) == ("dummy", 9216, 17, "")
        assert row.external_ids == {"dpf-type": "physical"}
        await until(database, lambda: ports(database)["p0"].link_state == "up")


async def test_what_is_already_so_is_not_written(ovs: OpenVSwitch) -> None:
    wanted = AddPort("br-sfc", "p0", "dummy", {"dpf-type": "physical"}, {"dpf-id": "ns/p0"}, 9216, 17, {"a": "b"})
    async with opened(Database(ovs.database)) as database:
        await database.apply([wanted])
        await until(database, lambda: ports(database)["p0"].link_state == "up")
        size = (ovs.directory / "conf.db").stat().st_size
        await database.apply([wanted, SetInterface("p0", {"dpf-id": "ns/p0", "gone": None}, mtu_request=9216), DeletePort("br-sfc", "p1")])
        await database.apply([])
        assert (ovs.directory / "conf.db").stat().st_size == size


async def test_one_transaction_does_all_or_nothing(ovs: OpenVSwitch) -> None:
    async with opened(Database(ovs.database)) as database:
        await database.apply([AddPort("br-sfc", "p0", "dummy", interface_external_ids={"dpf-id": "ns/p0"})])
        with pytest.raises(Rejected, match="interface nowhere does not exist") as caught:
            await database.apply([DeletePort("br-sfc", "p0"), AddPort("br-sfc", "p1", "dummy"), SetInterface("nowhere")])
        assert caught.value.code == "NoInterface"
        assert set(ports(database)) == {"br-sfc", "p0"}
        with pytest.raises(Rejected, match=r"p0: ofport_request cannot be \[70000\]") as caught:
            await database.apply([AddPort("br-sfc", "p1", "dummy"), SetInterface("p0", ofport_request=70000)])
        assert caught.value.code == "constraint violation"
        assert set(ports(database)) == {"br-sfc", "p0"}
        await database.apply([AddPort("br-sfc", "p1", "dummy"), SetInterface("p1", {"a": "b"}), DeletePort("br-sfc", "p0")])
        assert set(ports(database)) == {"br-sfc", "p1"}
        assert ports(database)["p1"].interface_external_ids == {"a": "b"}


async def test_a_port_of_one_owner_is_not_taken_over(ovs: OpenVSwitch) -> None:
    async with opened(Database(ovs.database)) as database:
        await database.apply([AddPort("br-sfc", "p0", "dummy", interface_external_ids={"dpf-id": "ns/first", "note": "kept"})])
        for change in (
            AddPort("br-sfc", "p0", "dummy", interface_external_ids={"dpf-id": "ns/second"}),
            SetInterface("p0", {"dpf-id": "ns/second"}),
            SetInterface("p0", {"note": "x"}, owner="ns/second"),
            DeletePort("br-sfc", "p0", owner="ns/second"),
        ):
            with pytest.raises(Rejected, match="port p0 belongs to ns/first; ns/second cannot have it") as caught:
                await database.apply([change])
            assert caught.value.code == "Claimed"
        assert ports(database)["p0"].interface_external_ids == {"dpf-id": "ns/first", "note": "kept"}
        await database.apply([SetInterface("p0", {"dpf-id": None}, owner="ns/first")])
        await database.apply([SetInterface("p0", {"dpf-id": "ns/second"})])
        assert ports(database)["p0"].interface_external_ids == {"dpf-id": "ns/second", "note": "kept"}
        await database.apply([DeletePort("br-sfc", "p0", owner="ns/second")])
        assert "p0" not in ports(database)


async def test_of_two_who_claim_a_port_at_once_one_gets_it(ovs: OpenVSwitch) -> None:
    async with opened(Database(ovs.database)) as one, opened(Database(ovs.database)) as two:
        for round_ in range(10):
            name = f"p{round_}"
            if round_ % 2:
                await one.apply([AddPort("br-sfc", name, "dummy")])
                await until(two, lambda name=name: name in ports(two))  # type: ignore[misc]  # a default keeps the name of this round
            results = await asyncio.gather(
                *(
                    database.apply([AddPort("br-sfc", name, "dummy", interface_external_ids={"dpf-id": f"ns/{number}"})])
                    for number, database in enumerate((one, two))
                ),
                return_exceptions=True,
            )
            refused = [number for number, result in enumerate(results) if isinstance(result, Rejected) and result.code == "Claimed"]
            assert len(refused) == 1, results
            assert ports(one)[name].interface_external_ids["dpf-id"] == f"ns/{1 - refused[0]}"


async def test_a_port_of_another_bridge_stays_there(ovs: OpenVSwitch) -> None:
    await ovs.vsctl("add-br", "br-other", "--", "add-port", "br-other", "p0", "--", "set", "interface", "p0", "type=dummy")
    async with opened(Database(ovs.database)) as database:
        with pytest.raises(Rejected, match="port p0 already exists on a bridge other than br-sfc") as caught:
            await database.apply([AddPort("br-sfc", "p0", "dummy")])
        assert caught.value.code == "WrongBridge"
        await database.apply([DeletePort("br-sfc", "p0")])
        other = database.ports("br-other")
        assert not isinstance(other, Absent)
        assert "p0" in other
        with pytest.raises(Rejected, match="failed to get bridge br-none: it does not exist"):
            await database.apply([AddPort("br-none", "p1", "dummy")])


async def test_absent_is_not_unreachable(ovs: OpenVSwitch) -> None:
    async with opened(Database(ovs.database)) as database:
        assert database.ports("br-none") == Absent("bridge br-none")
        assert database.bridge("br-none") == Absent("bridge br-none")
        bridge = database.bridge("br-sfc")
        assert not isinstance(bridge, Absent)
        assert (bridge.fail_mode, bridge.datapath_type) == ("secure", "netdev")
        assert "OpenFlow14" in bridge.protocols
    with pytest.raises(Unreachable):
        database.ports("br-sfc")
    with pytest.raises(Unreachable):
        await database.apply([DeletePort("br-sfc", "p0")])


async def test_changes_by_others_are_told(ovs: OpenVSwitch) -> None:
    async with opened(Database(ovs.database)) as database:
        await ovs.vsctl("add-port", "br-sfc", "p0", "--", "set", "interface", "p0", "external_ids:dpf-id=ns/x")
        await until(database, lambda: "p0" in ports(database))
        await ovs.vsctl("set", "interface", "p0", "external_ids:dpf-id=ns/y")
        await until(database, lambda: ports(database)["p0"].interface_external_ids == {"dpf-id": "ns/y"})
        await ovs.vsctl("set", "port", "p0", "external_ids:a=b")
        await until(database, lambda: ports(database)["p0"].external_ids == {"a": "b"})
        await call(ovs.control, "netdev-dummy/set-admin-state", "p0", "down")
        await until(database, lambda: ports(database)["p0"].admin_state == "down")
        await ovs.vsctl("del-port", "p0")
        await until(database, lambda: "p0" not in ports(database))
        await ovs.vsctl("del-br", "br-sfc")
        await until(database, lambda: isinstance(database.bridge("br-sfc"), Absent))


async def test_a_restarted_server_is_found_again_and_what_changed_meanwhile_is_seen(ovs: OpenVSwitch, background: Any) -> None:
    async with opened(Database(ovs.database)) as database:
        await database.apply([AddPort("br-sfc", "p0", "dummy"), AddPort("br-sfc", "p1", "dummy")])
        assert ovs._server is not None
        await asyncio.to_thread(background.run, ovs._server.stop())
        async with asyncio.timeout(10):
            while database.connected:
                await database._changed.wait()
        with pytest.raises(Unreachable, match="connection to the database was lost"):
            database.ports("br-sfc")
        with pytest.raises(Unreachable):
            await database.apply([DeletePort("br-sfc", "p1")])
        await asyncio.to_thread(background.run, ovs._start_server())
        await ovs.vsctl("del-port", "p1")
        await until(database, lambda: "p1" not in ports(database))
        assert "p0" in ports(database)
        await database.apply([AddPort("br-sfc", "p2", "dummy")])
        assert "p2" in ports(database)


async def test_an_agent_that_comes_first_waits_for_the_database(tmp_path: Path, make_ovs: Any, background: Any) -> None:
    ovs = make_ovs()
    assert ovs._server is not None
    await asyncio.to_thread(background.run, ovs._server.stop())
    database = Database(ovs.database)
    task = asyncio.create_task(database.run())
    await asyncio.sleep(0.1)
    with pytest.raises(Unreachable):
        database.ports("br-sfc")
    await asyncio.to_thread(background.run, ovs._start_server())
    async with asyncio.timeout(15):
        await database.synced()
    assert "br-sfc" in ports(database)
    task.cancel()
    await asyncio.wait([task])


def test_a_remote_that_is_no_socket_is_refused() -> None:
    with pytest.raises(ValueError, match="the database of a DPU is reached by its socket"):
        Database("tcp:127.0.0.1:6640")


async def test_commands_to_the_daemon(ovs: OpenVSwitch, tmp_path: Path) -> None:
    assert "br-sfc" in await call(ovs.control, "dpif/show")
    with pytest.raises(Rejected, match="ofproto/trace was refused: br-none: unknown bridge"):
        await call(ovs.control, "ofproto/trace", "br-none", "in_port=1")
    with pytest.raises(Rejected, match="not a valid command"):
        await call(ovs.control, "no/such")
    with pytest.raises(Unreachable, match="was not answered"):
        await call(tmp_path / "nothing.ctl", "version")
