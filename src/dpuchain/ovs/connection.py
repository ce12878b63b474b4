"""One OpenFlow connection: greeting, echo, and answers brought to whom they belong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from dpuchain.ovs import decode, encode
from dpuchain.ovs import protocol as of
from dpuchain.ovs.errors import Invalid, OvsError, Rejected, Unreachable

# Seconds after which a switch that neither answers nor hangs up counts as away. It answers a full table in a tenth of a second.
ANSWER_SECONDS = 10.0

# Kinds of OpenFlow's errors that a flow, a bundle or a greeting can earn (A.4.4), for messages to people.
_ERROR_KINDS = {
    0: "greeting refused",
    1: "request refused",
    2: "action refused",
    3: "instruction refused",
    4: "match refused",
    5: "flow refused",
    17: "bundle refused",
    0xFFFF: "refused by Open vSwitch",
}

_log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """An open connection that has been greeted; made by `connect`, at an end when `lost` is done."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lost: asyncio.Future[OvsError] = asyncio.get_running_loop().create_future()
        self.on_updates: Callable[[list[decode.Update]], None] = lambda _: None
        self.on_frame: Callable[[int, bytes], None] = lambda _cookie, _frame: None
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._transaction = 0
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._content: dict[int, list[bytes]] = {}
        self._refusals: dict[int, decode.Error] = {}
        self._handlers: Mapping[int, Callable[[int, bytes], None]] = {
            of.HELLO: self._on_hello,
            of.ERROR: self._on_error,
            of.ECHO_REQUEST: self._on_echo,
            of.MULTIPART_REPLY: self._on_multipart,
            of.PACKET_IN: self._on_packet,
            of.BARRIER_REPLY: self._on_answer,
            of.BUNDLE_CONTROL: self._on_answer,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the switch."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(encode.hello(self.next_transaction()))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._end(Unreachable(f"{self.name}: the switch closed the OpenFlow connection{f' ({exc})' if exc else ''}"))

    def data_received(self, data: bytes) -> None:
        """Take messages off what has arrived."""
        self._received += data
        try:
            self._take_messages()
        except OvsError as error:
            self._end(error)

    def _take_messages(self) -> None:
        offset = 0
        received = bytes(self._received)
        while len(received) - offset >= of.HEADER.size:
            head = decode.header(received[offset : offset + of.HEADER.size])
            if offset + head.length > len(received):
                break
            self._on_message(head, received[offset + of.HEADER.size : offset + head.length])
            offset += head.length
        del self._received[:offset]

    def _on_message(self, head: decode.Header, body: bytes) -> None:
        if head.version != of.VERSION and head.kind not in (of.HELLO, of.ERROR):
            message = f"{self.name}: a message of OpenFlow version {head.version} came after {of.VERSION} was agreed on"
            raise Invalid(message)
        handler = self._handlers.get(head.kind)
        if handler:
            handler(head.transaction, body)
        else:
            _log.debug("%s: message of kind %d ignored", self.name, head.kind)

    def _on_hello(self, _: int, body: bytes) -> None:
        offered = decode.versions(body)
        if offered and not offered & 1 << of.VERSION:
            self._end(self._wrong_version())
        elif not self._greeted.done():
            self._greeted.set_result(None)

    def _wrong_version(self) -> Rejected:
        remedy = "let the bridge speak it: ovs-vsctl add bridge BRIDGE protocols OpenFlow14"
        return Rejected("0/0", f"{self.name}: the bridge does not speak OpenFlow 1.4; {remedy}")

    def _on_error(self, transaction: int, body: bytes) -> None:
        error = decode.error(body)
        if not self._greeted.done():
            self._end(self._wrong_version())
        elif transaction in self._answers:
            self._content.pop(transaction, None)
            self._fail(self._answers.pop(transaction), rejection(self.name, "a request", error))
        else:
            self._refusals[transaction] = error

    def _on_echo(self, transaction: int, body: bytes) -> None:
        self.send([encode.message(of.ECHO_REPLY, transaction, body)])

    def _on_multipart(self, transaction: int, body: bytes) -> None:
        kind, more, content = decode.multipart(body)
        if transaction not in self._answers:
            if kind == of.MULTIPART_FLOW_MONITOR:
                self.on_updates(decode.updates(content))
            return
        self._content.setdefault(transaction, []).append(content)
        if not more:
            self._on_answer(transaction, b"".join(self._content.pop(transaction)))

    def _on_packet(self, _: int, body: bytes) -> None:
        self.on_frame(*decode.packet_in(body))

    def _on_answer(self, transaction: int, body: bytes) -> None:
        answer = self._answers.pop(transaction, None)
        if answer is not None and not answer.done():
            answer.set_result(body)

    def next_transaction(self) -> int:
        """A transaction number that no message in flight has."""
        self._transaction = self._transaction % 0xFFFFFFFF + 1
        return self._transaction

    def send(self, messages: Iterable[bytes]) -> None:
        """Send messages that are not answered if all goes well. Unreachable if the connection has ended."""
        if self._transport is None or self.lost.done():
            message = f"{self.name}: there is no OpenFlow connection"
            raise Unreachable(message)
        self._transport.write(b"".join(messages))

    async def ask(self, kind: int, body: bytes = b"") -> bytes:
        """Send one message and return the body of its answer: of all parts, for a multipart request.

        Rejected if the switch answers with an error, Unreachable if it does not answer.
        """
        transaction = self.next_transaction()
        self.send([encode.message(kind, transaction, body)])
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[transaction] = answer
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError as error:
            lost = Unreachable(f"{self.name}: the switch has not answered for {ANSWER_SECONDS:g} s")
            self._end(lost)
            raise lost from error
        finally:
            self._answers.pop(transaction, None)
            self._content.pop(transaction, None)

    def take_refusals(self) -> dict[int, decode.Error]:
        """Errors about messages that nobody waits for an answer to, by transaction, since this was last asked."""
        refusals, self._refusals = self._refusals, {}
        return refusals

    def close(self) -> None:
        """Hang up."""
        self._end(Unreachable(f"{self.name}: the OpenFlow connection was closed here"))

    @staticmethod
    def _fail(future: asyncio.Future[bytes] | asyncio.Future[None], error: OvsError) -> None:
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever waits still gets it; if nobody does any more, that is no fault to report

    def _end(self, error: OvsError) -> None:
        if self.lost.done():
            return
        self.lost.set_result(error)
        self._fail(self._greeted, error)
        for answer in self._answers.values():
            self._fail(answer, error)
        if self._transport is not None:
            self._transport.abort()

    async def greeted(self) -> None:
        """Return when both sides have agreed on OpenFlow 1.4. Rejected if they cannot, Unreachable if the switch hangs up first."""
        await self._greeted


def rejection(name: str, what: str, error: decode.Error) -> Rejected:
    """The error that the switch sent about `what`, as an exception."""
    kind = _ERROR_KINDS.get(error.kind, "refused")
    code = f"{error.kind}/{error.code}"
    return Rejected(code, f"{name}: {kind} (OpenFlow error {code}): {what}")


async def connect(socket: Path) -> Connection:
    """Connect to the switch's `socket` and agree on OpenFlow 1.4. Unreachable if nothing listens there, Rejected if it speaks no 1.4."""
    loop = asyncio.get_running_loop()
    name = socket.name
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, connection = await loop.create_unix_connection(lambda: Connection(name), str(socket))
            try:
                await connection.greeted()
            except BaseException:
                connection.close()
                raise
            return connection
    except FileNotFoundError as error:
        message = f"{socket} is not there: ovs-vswitchd does not run, or the bridge does not exist"
        raise Unreachable(message) from error
    except OSError as error:  # TimeoutError is one
        message = f"{socket}: cannot connect: {error or 'no answer'}"
        raise Unreachable(message) from error
