"""`python -m localcloud.pulumi_provider VERSION [ENGINE ADDRESS …]`: what `pulumi-resource-gcp` runs."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def lighten_pulumi() -> None:
    """Make `pulumi.runtime.proto` importable without running `pulumi/__init__.py`.

    Only the generated protocol is needed here; the SDK around it takes half a second to import, at every `pulumi up`.
    """
    spec = importlib.util.find_spec("pulumi")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent
    for name in ("pulumi", "pulumi.runtime", "pulumi.runtime.proto"):
        module = ModuleType(name)
        module.__path__ = [str(folder.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = module


if __name__ == "__main__":
    lighten_pulumi()
    from localcloud.pulumi_provider.server import serve

    # Pulumi puts options of its own before its address
    serve(sys.argv[1], sys.argv[-1] if len(sys.argv) > 2 else "")
