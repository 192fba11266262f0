"""`convc calibrate`: what this machine was measured to do."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from convc.cli.options import json_option

_UNITS = {
    "clock": (1e9, "GHz, one core alone"),
    "core_flops": (1e9, "GFLOP/s, one core alone"),
    "flops": (1e9, "GFLOP/s a core, all cores busy, as all that follow"),
    "broadcast_flops": (1e9, "GFLOP/s a core, a factor of each multiply-add broadcast from L1"),
    "unpacked_flops": (1e9, "GFLOP/s a core, each weight unpacked from 24 bits for 8 multiply-adds"),
    "l1_loads": (1e9, "billion vector loads a second and core"),
    "l2_bandwidth": (1e9, "GB/s a core, reads"),
    "l2_copy_bandwidth": (1e9, "GB/s a core, reads plus writes"),
    "l3_bandwidth": (1e9, "GB/s a core, reads"),
    "l3_copy_bandwidth": (1e9, "GB/s a core, reads plus writes"),
    "core_memory_bandwidth": (1e9, "GB/s, reads of one core alone"),
    "memory_bandwidth": (1e9, "GB/s, reads of all cores together"),
    "memory_copy_bandwidth": (1e9, "GB/s, reads plus writes of all cores together"),
    "launch_seconds": (1e-6, "us, a parallel region in which nothing is done"),
}


@click.command("calibrate")
@json_option
def command(as_json: bool) -> None:
    """Measure this machine, in about two seconds, and keep the figures for later compilations.

    The first compilation on a machine does the same by itself. Let nothing else run meanwhile. With
    CONVC_CALIBRATION naming a file of what `--json` prints, choices elsewhere are those of this machine.
    """
    from convc.codegen import calibrate
    from convc.codegen.machine import this_machine

    target = this_machine()
    path, found = calibrate.refresh(target)
    figures = asdict(found)
    if as_json:
        click.echo(json.dumps({"machine": calibrate.machine_key(target), "figures": figures}))
        return
    for name, (unit, meaning) in _UNITS.items():
        click.echo(f"{name:21s} {figures[name] / unit:8.3f}  {meaning}")
    click.echo(
        f"{found.core_flops / found.clock:.1f} FLOP, {found.l1_loads / found.clock:.2f} vector loads of "
        f"{target.lanes} floats a cycle"
    )
    click.echo(f"kept in {path}")
