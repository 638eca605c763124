"""The TypeScript SDK of this repository, built once for each state of its sources."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from infra.cache import cache_folder
from tests.sdks.tools import need, run

SDK = Path(__file__).parents[2] / "sdks" / "typescript"
SOURCES = ("src/*", "scripts/*", "*.json", ".npmrc")


def built_module() -> Path:
    """Its module, for `import`, built apart from the folder that other tests build in."""
    need("node", "npm")
    sources = sorted(path for pattern in SOURCES for path in SDK.glob(pattern))
    state = b"".join(str(path.relative_to(SDK)).encode() + path.read_bytes() for path in sources)
    folder = cache_folder() / "tests-typescript" / hashlib.sha256(state).hexdigest()[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for path in sources:
                copy = made / path.relative_to(SDK)
                copy.parent.mkdir(exist_ok=True)
                shutil.copy(path, copy)
            run("npm", "ci", "--no-audit", "--no-fund", cwd=made)
            run("npm", "run", "build", cwd=made)
            # Whole or not at all; another process may have been first.
            if not folder.exists():
                made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder / "dist" / "esm" / "index.js"
