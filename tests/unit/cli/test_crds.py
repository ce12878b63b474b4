"""What `dpuchain crds` prints is what is in the repository, parted by cluster."""

from __future__ import annotations

from pathlib import Path

import yaml
from click.testing import CliRunner

from dpuchain.cli import main

CRDS = Path(__file__).parents[3] / "deploy" / "crds"


def printed(*arguments: str) -> dict[str, object]:
    outcome = CliRunner().invoke(main, ["crds", *arguments])
    assert outcome.exit_code == 0
    return {item["metadata"]["name"]: item for item in yaml.safe_load_all(outcome.output)}


def test_all_are_those_of_the_repository_and_each_belongs_to_one_cluster() -> None:
    files = {item["metadata"]["name"]: item for item in map(yaml.safe_load, (path.read_text() for path in CRDS.glob("*.yaml")))}
    host, dpu = printed("--cluster=host"), printed("--cluster=dpu")
    assert printed() == files == {**host, **dpu}
    assert not host.keys() & dpu.keys()
