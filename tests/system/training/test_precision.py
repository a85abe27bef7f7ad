"""A run takes the precision that its machine has instructions for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from simplematch import bf16
from simplematch.training import precision, train

from .test_training import configuration

ZEN3, ZEN4 = {"avx2", "fma"}, {"avx2", "avx512f", "avx512_bf16"}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.mark.parametrize(
    ("flags", "expected", "said"),
    [
        (ZEN3, "fp32", "precision fp32: this processor has no instructions for bfloat16"),
        (ZEN4, "bf16", "precision bf16: this processor has instructions for bfloat16 (AVX-512 BF16)"),
        ({"amx_tile", "amx_bf16"}, "bf16", "precision bf16: this processor has instructions for bfloat16 (AMX)"),
        ({"avx_ne_convert"}, "fp32", "precision fp32: this processor has no instructions for bfloat16"),
    ],
)
def test_auto(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, flags: set[str], expected: str,
    said: str,
) -> None:  # fmt: skip
    caplog.set_level("INFO", "simplematch")
    monkeypatch.setattr(bf16, "_cpu_flags", lambda: flags)
    assert precision.settle(configuration(tmp_path, tmp_path, precision="auto")).precision == expected
    assert said in caplog.text and "emulated" not in caplog.text


def test_a_resumed_run_keeps_its_precision(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also on a machine that would have chosen another; a new run there would not."""
    caplog.set_level("INFO", "simplematch")
    monkeypatch.setattr(bf16, "_cpu_flags", lambda: ZEN3)
    config = configuration(photographs, tmp_path, precision="auto", max_steps=1)
    train(config)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["precision"] == "fp32"
    monkeypatch.setattr(bf16, "_cpu_flags", lambda: ZEN4)
    assert precision.settle(config, resume=True).precision == "fp32" and "precision fp32: as before" in caplog.text
    assert precision.settle(config).precision == "bf16"


def test_emulation_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bf16, "_cpu_flags", lambda: ZEN3)
    assert precision.settle(configuration(tmp_path, tmp_path, precision="bf16")).precision == "bf16"
    assert "precision bf16 is emulated, because this processor has no instructions for bfloat16" in caplog.text


def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: bool(asked.append(options)))
    assert precision.settle(configuration(tmp_path, tmp_path, precision="auto")).precision == "fp32"
    precision.settle(configuration(tmp_path, tmp_path, precision="bf16"))
    assert "because Tesla T4 has no instructions for bfloat16" in caplog.text
    assert bf16.describe_bf16("cuda") == "bf16 emulated"
    assert asked[0] == {"including_emulation": False}


def test_flags_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come from /proc/cpuinfo, or from PyTorch where there is none."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(bf16, "CPU_INFO", file)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert bf16.bf16_instructions() == ("AVX-512 BF16",)
    file.write_text("model name\t: A\nflags\t\t: fpu avx2 amx_bf16 avx512_bf16\nflags: again\n")
    assert bf16.bf16_instructions() == ("AVX-512 BF16", "AMX")
    file.write_text("Features\t: fp asimd bf16\n")
    assert bf16.describe_bf16("cpu") == "bf16 (Arm BF16)"
    file.write_text("flags : avx2\n")
    assert bf16.describe_bf16("cpu") == "bf16 emulated, no instructions" and not bf16.computes_bf16("cpu")
