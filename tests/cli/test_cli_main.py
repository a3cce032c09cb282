"""What starts the command line, and what it says where that ends by a signal."""

from __future__ import annotations

import pytest

from pamela_cli import cli
from pamela_cli.__main__ import main
from pamela_cli.console import Console


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_second_ctrl_c_on_the_way_out_says_nothing_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, has_failed: bool
) -> None:
    """It meets Python's own handler, which the command has put back when it had reported the first."""

    def run(arguments: list[str]) -> int:
        if has_failed:
            cli._console.error("stopped by SIGINT; nothing is left half-written.")
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", run)
    monkeypatch.setattr(cli, "_console", Console())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.count("error: stopped") == 1
