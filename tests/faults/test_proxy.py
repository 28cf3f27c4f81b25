"""The proxy does what it is told, and nothing else."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.proxy import (
    Once,
    Proxy,
    Way,
    answer,
    cut,
    cut_after,
    delay,
    half_close_after,
    run_proxy,
)

WORDS = b"announce, send, confirm" * 10_000


class Echo:
    """A server that sends back what it gets, and keeps it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.got = b""
        self.ended = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            try:
                while piece := connection.recv(4096):
                    self.got += piece
                    connection.sendall(piece)
            except OSError:
                pass
            self.ended.set()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with run_proxy(echo.listener.getsockname()) as running:
        yield running


def talk(proxy: Proxy, words: bytes) -> bytes:
    """Send, say that this was all, and return what comes back; a reset that either side of it meets is raised."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client, ThreadPoolExecutor() as pool:
        sending = pool.submit(send_all, client, words)
        received = b""
        while piece := client.recv(4096):
            received += piece
        sending.result()
        return received


def send_all(client: socket.socket, words: bytes) -> None:
    client.sendall(words)
    client.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("rule", [None, delay(0.001, Way.DOWN), Once(b"not there", Way.UP, cut)])
def test_it_passes_and_counts(proxy: Proxy, echo: Echo, rule: object) -> None:
    if rule:
        proxy.rule = rule  # type: ignore[assignment]
    assert talk(proxy, WORDS) == WORDS
    assert (proxy.bytes_up, proxy.bytes_down, proxy.connections) == (len(WORDS), len(WORDS), 1)


@pytest.mark.parametrize("way", list(Way))
def test_a_cut_is_a_reset_for_both(proxy: Proxy, echo: Echo, way: Way) -> None:
    proxy.rule = cut_after(100_000, way)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        talk(proxy, WORDS)
    assert echo.ended.wait(30)
    assert len(echo.got) < len(WORDS) or way is Way.DOWN


@pytest.mark.parametrize("is_passed", [False, True])
def test_words_are_waited_for(proxy: Proxy, echo: Echo, is_passed: bool) -> None:
    proxy.rule = Once(b"COMMIT", Way.UP, lambda: cut(is_passed=is_passed))
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        talk(proxy, b"BEGIN; COMMIT")
    assert echo.ended.wait(30)
    assert echo.got == (b"BEGIN; COMMIT" if is_passed else b"")


def test_one_way_can_end_alone(proxy: Proxy, echo: Echo) -> None:
    proxy.rule = half_close_after(0, Way.DOWN)
    assert talk(proxy, b"confirm") == b""
    assert echo.ended.wait(30)
    assert echo.got == b"confirm"


def test_it_answers_in_the_place_of_the_server(proxy: Proxy, echo: Echo) -> None:
    proxy.rule = Once(b"POST", Way.UP, lambda: answer(b"HTTP/1.1 500 Internal Server Error\r\n\r\n"))
    assert talk(proxy, b"POST /") == b"HTTP/1.1 500 Internal Server Error\r\n\r\n"
    assert echo.ended.wait(30)
    assert echo.got == b""


def test_who_does_not_listen_is_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with (
        run_proxy(address) as proxy,
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30) as client,
    ):
        client.recv(1)
