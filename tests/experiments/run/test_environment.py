"""What a record says of the machine: enough to repeat a run, and nothing of whose machine it is."""

import getpass
import json
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from experiments.engine import machine


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Ask the system anew in each test, and after it."""
    asked = (machine.cpu_model, machine.software, machine._driver)
    for function in asked:
        function.cache_clear()
    yield
    for function in asked:
        function.cache_clear()


def test_the_processor_is_named_as_the_system_names_it():
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "model name" not in cpuinfo.read_text():
        pytest.skip("this system has no /proc/cpuinfo with model names")
    told = subprocess.run(
        ["sed", "-n", "s/^model name[[:space:]]*: //p", cpuinfo], capture_output=True, text=True
    ).stdout.splitlines()
    assert machine.describe_machine(torch.device("cpu"))["cpu_model"] == told[0].strip()


def test_the_processor_has_a_name_where_the_system_says_nothing(monkeypatch):
    def unreadable(self, **options):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", unreadable)
    monkeypatch.setattr(machine, "_output_of", lambda *command: None)
    assert machine.cpu_model() in (machine.platform.processor(), os.uname().machine)


def test_a_cpu_has_no_gpu():
    assert machine.describe_machine(torch.device("cpu"))["gpu"] is None


def test_a_gpu_has_memory_driver_and_cuda(monkeypatch):
    properties = SimpleNamespace(total_memory=150_754_820_096)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91_200)
    monkeypatch.setattr(machine, "_output_of", lambda *command: "580.65.06\n580.65.06")
    facts = machine.describe_machine(torch.device("cuda", 0))
    assert facts["device"] == "NVIDIA H200"
    assert facts["gpu"] == {
        "memory_bytes": 150_754_820_096,
        "driver": "580.65.06",
        "cuda": "13.0",
        "cudnn": 91_200,
    }


def test_a_system_without_the_command_tells_no_driver(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._driver() is None


@pytest.mark.gpu
def test_the_facts_of_this_gpu_are_there():
    facts = machine.describe_machine(torch.device("cuda"))["gpu"]
    assert all(facts.values())
    assert facts["memory_bytes"] == torch.cuda.mem_get_info()[1]


def test_neither_host_nor_user_nor_path_is_named():
    text = json.dumps(machine.describe_machine(torch.device("cpu")))
    words = set(re.split(r"[^\w.-]+", text))
    assert words.isdisjoint({os.uname().nodename, getpass.getuser()})
    assert str(Path.home()) + "/" not in text
    assert str(machine.checkout.ROOT) not in text
