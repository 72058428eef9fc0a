"""The bill of materials of the software (CycloneDX 1.6): its packages, its bundle and its weights.

    python -m covid_ct_mask_net.app.sbom -o sbom.json

What is listed is what is installed: the requirements of this package without its extras, and theirs, with
their versions, licences and who needs whom; the configurations of the bundle and its weights with their
SHA-256. The same installation gives the same bytes: no time but that of SOURCE_DATE_EPOCH, and a serial
number made of the content. Needs the extra ``sbom``.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from covid_ct_mask_net import RESEARCH_NOTICE, __version__
from covid_ct_mask_net.checkpoints import file_sha256
from covid_ct_mask_net.clock import is_fixed, now
from covid_ct_mask_net.paths import bundle_root

_ROOT = "covid-ct-mask-net"
_BUNDLED = ("*.yaml", "*.json", "*.conf")
# Licence texts longer than a name are the file, not its name.
_LONGEST_NAME = 100
_licenses = LicenseFactory()


def bill_of_materials(bundle: Path | None = None) -> str:
    """Return the bill of materials as JSON.

    Parameters
    ----------
    bundle : Path, optional
        Bundle folder; the one of this installation if not given.
    """
    root = bundle or bundle_root()
    components: dict[str, Component] = {}
    needs: dict[str, set[str]] = {}
    _collect(_ROOT, frozenset(), components, needs)
    application = components.pop(_ROOT)
    application.type = ComponentType.APPLICATION
    application.description = RESEARCH_NOTICE
    parts = [_bundle(root), *_weights(root)]
    bom = Bom(components=[*components.values(), *parts])
    bom.metadata.component = application
    bom.metadata.timestamp = now()
    for name, wanted in needs.items():
        component = application if name == _ROOT else components[name]
        bom.register_dependency(component, [components[other] for other in sorted(wanted & set(components))])
    bom.register_dependency(application, [*_direct(needs, components), *parts])
    # Of the content, and so the same for the same content.
    bom.serial_number = uuid.UUID(int=0)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, _text(bom))
    return _text(bom)


def _text(bom: Bom) -> str:
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    if not is_fixed():
        del document["metadata"]["timestamp"]
    return json.dumps(document, indent=2) + "\n"


def _direct(needs: dict[str, set[str]], components: dict[str, Component]) -> list[Component]:
    return [components[name] for name in sorted(needs[_ROOT] & set(components))]


def _collect(
    name: str, extras: frozenset[str], components: dict[str, Component], needs: dict[str, set[str]]
) -> None:
    """Add an installed package and what it requires; what is not installed here is not part of it."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return
    key = canonicalize_name(name)
    new = key not in components
    if new:
        components[key] = _package(found)
        needs[key] = set()
    for requirement in _required(found, extras):
        other = canonicalize_name(requirement.name)
        known = other in needs[key]
        needs[key].add(other)
        if (new or extras) and not (known and not requirement.extras):
            _collect(requirement.name, frozenset(requirement.extras), components, needs)


def _required(found: Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in found.requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _package(found: Distribution) -> Component:
    name = canonicalize_name(found.name)
    return Component(
        name=name,
        version=found.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}@{found.version}",
        purl=PackageURL("pypi", name=name, version=found.version),
        licenses=[license_] if (license_ := _license(found)) else [],
    )


def _license(found: Distribution) -> License | None:
    metadata = found.metadata
    expressions = metadata.get_all("License-Expression") or []
    named = "".join(expressions or metadata.get_all("License") or [])
    if not named.strip() or named.strip() == "UNKNOWN" or "\n" in named or len(named) > _LONGEST_NAME:
        classes = metadata.get_all("Classifier") or []
        names = [line.split(" :: ")[-1] for line in classes if line.startswith("License ::")]
        named = " and ".join(names)
    return _licenses.make_from_string(named.strip()) if named.strip() else None


def _bundle(root: Path) -> Component:
    files = sorted(path for pattern in _BUNDLED for path in (root / "configs").glob(pattern))
    return Component(
        name="COVID-CT-Mask-Net bundle",
        version=__version__,
        type=ComponentType.DATA,
        bom_ref="bundle",
        components=[_file(path, root) for path in files],
    )


def _weights(root: Path) -> list[Component]:
    paths = sorted(path for path in (root / "models").glob("*") if path.suffix in (".pt", ".ts"))
    return [_file(path, root, ComponentType.MACHINE_LEARNING_MODEL) for path in paths]


def _file(path: Path, root: Path, kind: ComponentType = ComponentType.FILE) -> Component:
    name = path.relative_to(root).as_posix()
    hashed = HashType(alg=HashAlgorithm.SHA_256, content=file_sha256(path))
    return Component(name=name, version=__version__, type=kind, bom_ref=f"bundle/{name}", hashes=[hashed])


def main(arguments: list[str] | None = None) -> int:
    """Write the bill of materials."""
    parser = argparse.ArgumentParser(
        prog="python -m covid_ct_mask_net.app.sbom", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="where to write it")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="bundle (default: that of this installation)"
    )
    parsed = parser.parse_args(arguments)
    parsed.output.write_text(bill_of_materials(parsed.bundle), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
