"""Projects of plug-ins as pip lays them out."""

import tomllib
from pathlib import Path


def lay_out(project: Path, site: Path) -> list[str]:
    """Install a project as an editable one: what Python's path needs for it, in a folder that exists."""
    meta = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    info = site / f"{meta['name'].replace('-', '_')}-{meta['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {meta['name']}\nVersion: {meta['version']}\n")
    lines = [f"{name} = {module}" for name, module in meta["entry-points"]["genseg"].items()]
    (info / "entry_points.txt").write_text("[genseg]\n" + "\n".join(lines) + "\n")
    return [str(site), str(project)]
