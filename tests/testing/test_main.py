"""``python -m regwarden.testing`` is an ordinary tool: help, an address on standard output, a clean end."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from regwarden.testing.__main__ import main


def _start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "regwarden.testing", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_prints_its_address_serves_and_ends_cleanly_when_interrupted():
    with _start("--behaviour", "oci-1.1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/v2/_catalog") as response:
            assert "shop/web" in json.load(response)["repositories"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_it_can_ask_for_credentials():
    with _start("--auth", "basic", "--empty") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/v2/")
        request = urllib.request.Request(f"{url}/v2/_catalog", headers={"Authorization": "Basic ZGVtbzpkZW1v"})
        with urllib.request.urlopen(request) as response:
            assert json.load(response) == {"repositories": []}
        process.send_signal(signal.SIGINT)
        process.wait(10)


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "sample registry" in capsys.readouterr().out


def test_a_port_in_use_is_one_clear_sentence(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--port", str(port), "--empty"]) == 1
    assert capsys.readouterr().err == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"
    with pytest.raises(SystemExit):
        main(["--port", "70000"])
    assert "70000 is not a port" in capsys.readouterr().err
