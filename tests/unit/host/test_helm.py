"""How Helm is run: with a home of its own, and with nothing left behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from dpuchain.chain.release import Release
from dpuchain.cli.host import command
from dpuchain.host import helm
from dpuchain.host.helm import Helm, HelmError

if TYPE_CHECKING:
    from collections.abc import Callable

RELEASE = Release("service", "dpf", "https://charts.example/stable", "chart", "1.0.0", {"size": 3})


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Return `script(body)`: the path of a program that takes Helm's place."""

    def write(body: str) -> str:
        path = tmp_path / "helm"
        path.write_text(f"#!/bin/sh\ncd {tmp_path}\n{body}\n")
        path.chmod(0o755)
        return str(path)

    return write


async def test_command_has_a_home_of_its_own_and_takes_it_along(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/somebody/.kube/config")
    monkeypatch.setenv("HELM_NAMESPACE", "somebodys")
    body = 'env > seen; cp "$KUBECONFIG" kubeconfig; stat -c %a "$(dirname "$KUBECONFIG")" > mode; echo "$@" > arguments; cat > values'
    await Helm(script(body), {}).install(b"the kubeconfig", RELEASE, {"a": "b"})
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert "HELM_NAMESPACE" not in seen
    homes = {Path(seen[name]).parent for name in ("KUBECONFIG", "HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
    assert len(homes) == 1
    assert not homes.pop().exists()
    assert (tmp_path / "kubeconfig").read_text() == "the kubeconfig"
    assert (tmp_path / "mode").read_text().strip() == "700"
    assert (tmp_path / "values").read_text() == '{"size":3}'
    assert "--labels a=b" in (tmp_path / "arguments").read_text()


@pytest.mark.parametrize(
    ("release", "mirrors", "chart"),
    [
        (RELEASE, {}, "chart --repo https://charts.example/stable "),
        (RELEASE, {"https://charts.example/stable/": "http://mirror"}, "chart --repo http://mirror "),
        (Release("service", "dpf", "oci://charts.example/a", "chart", "1.0.0", {}), {}, "oci://charts.example/a/chart "),
        (Release("service", "dpf", "oci://charts.example/a", "", "1.0.0", {}), {}, "oci://charts.example/a "),
        (Release("service", "dpf", "https://a", "chart", "1.0.0", {}), {"https://a": "oci://b"}, "oci://b/chart "),
    ],
)
async def test_chart_is_fetched_from_its_repository_or_the_mirror(
    script: Callable[[str], str], tmp_path: Path, release: Release, mirrors: dict[str, str], chart: str
) -> None:
    await Helm(script('echo "$@" > arguments'), mirrors).install(b"", release, {})
    assert (tmp_path / "arguments").read_text().startswith(f"upgrade --install service {chart}")


@pytest.mark.parametrize(
    ("said", "about_chart"),
    [
        ('Error: chart "chart" version "1.0.0" not found in http://mirror repository', True),
        ('Error: looks like "http://mirror" is not a valid chart repository or cannot be reached: dial tcp: connection refused', True),
        ('Error: failed to perform "FetchReference" on source: Get "https://charts.example/v2/": connection refused', True),
        ('Error: namespaces "dpf" not found', False),
        ("Error: UPGRADE FAILED: values don't meet the specifications of the schema(s)", False),
    ],
)
async def test_failure_is_told_in_helms_words_and_blames_the_chart_only_for_what_it_is(
    script: Callable[[str], str], said: str, about_chart: bool
) -> None:
    program = script(f"echo 'WARNING: beware' >&2; cat >&2 <<'END'\n{said}\nEND\nexit 1")
    with pytest.raises(HelmError) as caught:
        await Helm(program, {}).install(b"", RELEASE, {})
    assert said.removeprefix("Error: ") in str(caught.value)
    assert "beware" not in str(caught.value)
    assert ("chart chart 1.0.0 cannot be had from https://charts.example/stable" in str(caught.value)) is about_chart


async def test_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HelmError, match=r"no-helm cannot be run .*--helm"):
        await Helm(str(tmp_path / "no-helm"), {}).uninstall(b"", "dpf", "service")


@pytest.mark.parametrize("cancelled", [False, True])
async def test_command_that_does_not_end_is_ended(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    for pipe in ("begun", "never"):
        os.mkfifo(tmp_path / pipe)
    program = script("echo $$ > begun; read line < never")
    monkeypatch.setattr(helm, "COMMAND_SECONDS", 60.0 if cancelled else 0.5)
    running = asyncio.ensure_future(Helm(program, {}).uninstall(b"", "dpf", "service"))
    process = await asyncio.to_thread((tmp_path / "begun").read_text)
    if cancelled:
        running.cancel()
    with pytest.raises(asyncio.CancelledError if cancelled else HelmError):
        await running
    assert not Path(f"/proc/{process.strip()}").exists()


async def test_folder_of_a_controller_that_was_killed_goes_with_the_next_command_and_one_in_use_stays(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tmp_path / "folders"
    folders.mkdir()
    for pipe in ("begun", "never"):
        os.mkfifo(tmp_path / pipe)
    program = script('case "$*" in *slow*) echo > begun; read line < never;; esac')
    work = "asyncio.run(Helm(sys.argv[1], {}).uninstall(b'secret', 'dpf', 'slow'))"
    code = f"import asyncio, sys; from dpuchain.host.helm import Helm; {work}"
    controller = await asyncio.create_subprocess_exec(sys.executable, "-c", code, program, env={**os.environ, "TMPDIR": str(folders)})
    await asyncio.to_thread((tmp_path / "begun").read_text)
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    await Helm(program, {}).uninstall(b"", "dpf", "quick")
    assert [(folder / "kubeconfig").read_text() for folder in folders.iterdir()] == ["secret"]
    controller.kill()
    await controller.wait()
    assert list(folders.iterdir())
    await Helm(program, {}).uninstall(b"", "dpf", "quick")
    assert not list(folders.iterdir())


async def test_program_has_the_name_by_which_its_fields_are_known(tmp_path: Path) -> None:
    program = tmp_path / "helm-3.22"
    program.symlink_to(sys.executable)
    code = "import sys; sys.exit(sys.orig_argv[0])"
    assert await Helm(str(program), {})._run(b"", ["-S", "-c", code], b"") == helm.FIELD_MANAGER


async def test_program_whose_starter_has_ended_already_does_not_begin(tmp_path: Path) -> None:
    arguments = [sys.executable, "-IS", str(helm.TETHER), "1", "/bin/touch", "touch", str(tmp_path / "begun")]
    child = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)
    _, said = await child.communicate()
    assert (child.returncode, said) == (1, b"the controller has ended\n")
    assert not (tmp_path / "begun").exists()


async def test_program_of_another_machine_is_told(tmp_path: Path) -> None:
    program = tmp_path / "helm"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    with pytest.raises(HelmError, match="helm cannot be run: Exec format error"):
        await Helm(str(program), {}).uninstall(b"", "dpf", "service")


async def test_repository_that_hangs_leaves_turns_to_the_others(script: Callable[[str], str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    door = Helm(script('case "$*" in *slow*) echo slow >> runs; read line < never;; *) echo quick >> runs;; esac'), {})
    slow = dataclasses.replace(RELEASE, repo_url="https://slow.example")
    hanging = [asyncio.ensure_future(door.install(f"cluster-{n}".encode(), slow, {})) for n in range(2 * helm.RUNS)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(door.install(b"another", RELEASE, {}) for _ in range(2 * helm.RUNS)))
    runs = (tmp_path / "runs").read_text().split()
    assert runs.count("quick") == 2 * helm.RUNS
    assert runs.count("slow") == helm.SHARE
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    async with asyncio.timeout(30):
        await door.install(b"another", RELEASE, {})


async def test_no_more_commands_than_allowed_run_at_once(script: Callable[[str], str], tmp_path: Path) -> None:
    for pipe in ("begun", "gate"):
        os.mkfifo(tmp_path / pipe)
    begun, gate = (os.open(tmp_path / pipe, os.O_RDWR) for pipe in ("begun", "gate"))
    door = Helm(script("echo x >> count; printf x > begun; read line < gate"), {})
    commands = [asyncio.ensure_future(door.uninstall(f"cluster-{n}".encode(), "dpf", "service")) for n in range(helm.RUNS + 4)]
    for _ in range(helm.RUNS):
        await asyncio.to_thread(os.read, begun, 1)
    assert (tmp_path / "count").read_text().count("x") == helm.RUNS
    os.write(gate, b"\n" * len(commands))
    await asyncio.gather(*commands)
    assert (tmp_path / "count").read_text().count("x") == helm.RUNS + 4
    for descriptor in (begun, gate):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Error: Get https://us:s3cr%2Ft@charts.example/index.yaml: no", "Get https://***@charts.example/index.yaml: no"),
        ("Error: unauthorized for s3cr/t of s3cr%2Ft", "unauthorized for *** of ***"),
        ('Error: Get "https://charts.example/a?token=abc&X=d": no', 'Get "https://charts.example/a?token=***&X=***": no'),
        ("Error: tls with c2VjcmV0a2V5 and t0ken-of-ours", "tls with *** and ***"),
        ("Error: " + "a" * 5000 + " the cause", "the cause"),
    ],
)
async def test_credentials_are_not_told_and_words_are_few(script: Callable[[str], str], said: str, told: str) -> None:
    release = dataclasses.replace(RELEASE, repo_url="https://us:s3cr%2Ft@charts.example")
    kubeconfig = b'{"users": [{"user": {"token": "t0ken-of-ours", "client-key-data": "c2VjcmV0a2V5"}}]}'
    with pytest.raises(HelmError) as caught:
        await Helm(script(f"cat >&2 <<'END'\n{said}\nEND\nexit 1"), {}).install(kubeconfig, release, {})
    assert told in str(caught.value)
    assert len(str(caught.value)) < 800
    for secret in ("s3cr", "abc", "c2Vj", "t0ken"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("as_pod", [True, False])
async def test_own_cluster_is_reached_by_its_file_or_as_the_pod_that_we_are(
    script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_pod: bool
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
    monkeypatch.setenv("KUBECONFIG", "/home/somebody/.kube/config")
    file = tmp_path / "own"
    await Helm(script("env > seen"), {}).uninstall(None if as_pod else file, "dpf", "service")
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert ("KUBERNETES_SERVICE_HOST" in seen) is as_pod
    assert (seen["KUBECONFIG"] == str(file)) is not as_pod
    assert not seen["KUBECONFIG"].startswith("/home")


def test_mirror_that_is_none_is_refused() -> None:
    outcome = CliRunner().invoke(command, ["--chart-mirror", "https://charts.example"])
    assert outcome.exit_code == 2
    assert "'https://charts.example' is not URL=MIRROR" in outcome.output
