"""Files with Job and Pod manifests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confcom.playground.api.errors import ManifestError
from confcom.playground.manifests.decoding import Decoder, FieldError
from confcom.playground.manifests.documents import load_documents
from confcom.playground.manifests.v1 import Job, Pod, PodSpec

_KINDS: dict[tuple[object, object], type[Job | Pod]] = {("v1", "Pod"): Pod, ("batch/v1", "Job"): Job}


def parse_manifests(text: str) -> tuple[tuple[Job | Pod, ...], tuple[str, ...]]:
    """Parse a manifest file.

    Returns:
        The objects in their order, and a warning for every field that has no effect here.

    Raises:
        ManifestError: the API server would refuse it (with the API server's text), or the playground does not support
            that kind.
    """
    documents = load_documents(text)
    if not documents:
        raise ManifestError("no objects passed to apply", error_code="manifest-empty", why="the manifest is empty")
    manifests: list[Job | Pod] = []
    warnings: list[str] = []
    for document in documents:
        version, kind = str(document.get("apiVersion")), str(document.get("kind"))
        struct = _KINDS.get((version, kind))
        if struct is None:
            raise ManifestError(
                f'no matches for kind "{kind[:64]}" in version "{version[:64]}"',
                error_code="kind-unknown",
                why="the playground runs Job (batch/v1) and Pod (v1) manifests",
                remedy="use a cluster for the other kinds",
            )
        decoder = Decoder(kind)
        manifest = decoder.decode(document, struct)
        if decoder.errors:
            raise _invalid(manifest, decoder.errors)
        manifests.append(manifest)
        warnings += [f"{kind} {manifest.name}: {warning}" for warning in (*decoder.warnings, *_warnings(manifest))]
    return tuple(manifests), tuple(warnings)


def _invalid(manifest: Job | Pod, errors: Sequence[FieldError]) -> ManifestError:
    """Return the error that lists what is wrong as kubectl shows it; its code is that of the first."""
    listed = ", ".join(f"{error.path}: {error.text}" for error in errors)
    qualified = "Job.batch" if isinstance(manifest, Job) else "Pod"
    return ManifestError(
        f'{qualified} "{manifest.name}" is invalid: {listed if len(errors) == 1 else f"[{listed}]"}',
        error_code=errors[0].code,
        why="the API server validates every object in this way",
    )


def _warnings(manifest: Job | Pod) -> Iterator[str]:
    if isinstance(manifest, Pod):
        yield from _pod_warnings(manifest.spec, "spec")
        return
    yield from _pod_warnings(manifest.spec.template.spec, "spec.template.spec")
    for name in ("completions", "parallelism"):
        if (count := getattr(manifest.spec, name)) != 1:
            yield f"spec.{name} is {count}: a Job runs one pod here"


def _pod_warnings(spec: PodSpec, path: str) -> Iterator[str]:
    for index, volume in enumerate(spec.volumes):
        if volume.host_path is None and volume.empty_dir is None:
            yield f"{path}.volumes[{index}] becomes an empty directory: its type is not supported here"
    for index, container in enumerate(spec.containers):
        for name, limit in container.resources.limits.items():
            where = f"{path}.containers[{index}].resources.limits[{name}]"
            if "/" not in name:
                yield f"{where} has no effect: the playground accounts for device plugins' resources only"
            elif name.endswith("MiB") and limit.has_suffix:
                count = int(limit.value)
                yield f"{where} is {limit}, which means {count:,} units of 1 MiB: write a plain number"
