"""Print a dependency group of pyproject.toml (`dev` unless named), one requirement a line, for a pip without groups."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

group = sys.argv[1] if len(sys.argv) > 1 else "dev"
project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
print("\n".join(project["dependency-groups"][group]))
