"""`convc inspect`: what a module file says of itself."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convc.cli.options import json_option

if TYPE_CHECKING:
    from convc.runtime.manifest import Manifest


@click.command("inspect")
@click.argument("module", type=click.Path(path_type=Path), metavar="MODULE.so")
@click.option("--check", is_flag=True, help="Read all of the file and compare it with its checksums.")
@json_option
def command(module: Path, check: bool, as_json: bool) -> None:
    """Show a module's inputs, outputs, target, sizes, versions and measured error. Runs none of its code."""
    from convc.runtime import manifest as manifests

    manifest = manifests.read(module)
    if check:
        manifests.check(module, manifest, all_weights=True)
    if as_json:
        click.echo(json.dumps(asdict(manifest)))
        return
    for title, tensors in (("input", manifest.inputs), ("output", manifest.outputs)):
        for tensor in tensors:
            click.echo(f"{title:12s} {tensor.name}: {tensor.dtype}{list(tensor.shape)}")
    where, needs = _target(manifest)
    error = manifest.verification.get("error")
    lowerings = [layer.chosen for layer in manifest.plan]
    counts = ", ".join(f"{name} {lowerings.count(name)}" for name in sorted(set(lowerings)))
    workspace = (manifest.workspace_bytes / 1e6, manifest.workspace_bound / 1e6)
    for label, text in (
        ("network", f"{manifest.name}, {len(manifest.plan)} layers ({counts})"),
        ("target", where),
        ("needs", needs),
        ("weights", f"{manifest.weights_bytes / 1e6:.1f} MB"),
        ("workspace", f"{workspace[0]:.2f} MB a call, {workspace[1]:.2f} of them in use at once"),
        ("denormals", "kept" if manifest.options.get("keep_denormals", True) else "taken for zero"),
        ("verified", "no" if error is None else f"error {error:.1e} of the largest output"),
        ("model", manifest.model_sha256 or "not from a file"),
        ("versions", ", ".join(f"{k} {v}" for k, v in manifest.versions.items())),
    ):
        click.echo(f"{label:12s} {text}")
    if check:
        click.echo(f"{'checked':12s} manifest, code and weights are as they were written")


def _target(manifest: Manifest) -> tuple[str, str]:
    """The machine that a module is for, and what it must have."""
    target = manifest.target
    gpu = target.get("gpu")
    if gpu is None:
        where = f"{target['triple']}:{target['mcpu']}, {manifest.threads} threads"
        return where, ", ".join(target["features"]) or "nothing special"
    machine = str(target["triple"]).split("-")[0]
    where = f"{target['name']} in a machine with {machine}, products in {gpu['precision']}"
    return where, "an NVIDIA driver"
